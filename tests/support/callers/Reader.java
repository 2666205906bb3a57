import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** java Reader.java URL: as readers.py, with the client of the JDK, which offers h2c by default. */
public class Reader {
    static String name = "", data = "", lastId = "";

    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        while (true) {
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(given[0]));
            if (!lastId.isEmpty()) {
                request.header("Last-Event-ID", lastId);
            }
            try {
                client.send(request.build(), HttpResponse.BodyHandlers.ofLines())
                    .body().forEach(Reader::read);
            } catch (IOException | java.io.UncheckedIOException away) {
                // it will be back
            }
            Thread.sleep(200);
        }
    }

    static void read(String line) {
        if (line.startsWith("event: ")) {
            name = line.substring(7);
        } else if (line.startsWith("data: ")) {
            data = line.substring(6);
        } else if (line.startsWith("id: ")) {
            lastId = line.substring(4);
        } else if (line.isEmpty() && !data.isEmpty()) {
            System.out.println("{\"n\":0,\"what\":\"" + name + "\",\"data\":" + data + "}");
            data = "";
        }
    }
}
