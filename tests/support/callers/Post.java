import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/**
 * java Post.java URL BODY: posts it with the JDK's client, which offers h2c on each new connection; with its
 * length, then in chunks. Shows each answer in a line.
 */
public class Post {
    public static void main(String[] given) throws Exception {
        BodyPublisher whole = BodyPublishers.ofString(given[1]);
        for (BodyPublisher body : new BodyPublisher[] {whole, BodyPublishers.fromPublisher(whole)}) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(given[0]))
                .header("Content-Type", "application/json").POST(body).build();
            System.out.println(
                HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body());
        }
    }
}
