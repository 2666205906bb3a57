# Varnish in front of stream-server, behind a program that does TLS (hitch, HAProxy). docs/proxies.md explains each line.
vcl 4.1;

import directors;
import std;

probe ready {
    .url = "/readyz";
    .interval = 1s;
    .timeout = 1s;
    .window = 1;
    .threshold = 1;
    .initial = 1;
}

backend a {
    .host = "127.0.0.1";
    .port = "8000";
    .probe = ready;
    .first_byte_timeout = 75s; # more than the longest ?wait (60 s)
}

backend b {
    .host = "127.0.0.1";
    .port = "8001";
    .probe = ready;
    .first_byte_timeout = 75s;
}

sub vcl_init {
    new servers = directors.round_robin();
    servers.add_backend(a);
    servers.add_backend(b); # remove this line and backend b if there is only one server
}

sub vcl_recv {
    set req.backend_hint = servers.backend();
    if (req.url ~ "^/(metrics|readyz)(\?|$)") {
        return (synth(404));
    }
    if (req.url ~ "^/api/inventory/([^?]+/)?stream(\?|$)") {
        if (!std.healthy(req.backend_hint)) {
            return (synth(750));
        }
        return (pipe);
    }
    if (req.url ~ "^/api/") {
        return (pass); # for a cached answer Varnish would remove If-None-Match, and ?wait would not wait
    }
}

# An EventSource never reconnects after a status other than 200.
sub vcl_synth {
    if (resp.status == 750) {
        set resp.status = 200;
        set resp.http.Content-Type = "text/event-stream";
        set resp.http.Cache-Control = "no-store";
        set resp.http.Access-Control-Allow-Origin = "*"; # for pages of ALLOWED_ORIGINS
        synthetic({"retry: 2000

"});
        return (deliver);
    }
}

sub vcl_backend_fetch {
    set bereq.backend = servers.backend();
}

sub vcl_backend_error {
    if (bereq.retries == 0 && bereq.method == "GET") {
        return (retry);
    }
    if (bereq.url ~ "^/api/") {
        set beresp.http.Content-Type = "application/json";
        set beresp.http.Retry-After = "2";
        set beresp.http.Access-Control-Allow-Origin = "*";
        synthetic("""{"success":false,"error":{"code":"unavailable","message":"The server is away for a moment"}}""");
        return (deliver);
    }
}
