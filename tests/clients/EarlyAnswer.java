// Java's HttpClient: sends a PUT of SIZE bytes to URL and prints the version, the status and the
// body.
//
//   java EarlyAnswer.java URL HTTP_1_1|HTTP_2 SIZE

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.SecureRandom;
import java.security.cert.X509Certificate;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

class EarlyAnswer {
  public static void main(String[] arguments) throws Exception {
    System.setProperty("jdk.internal.httpclient.disableHostnameVerification", "true");
    var context = SSLContext.getInstance("TLS");
    context.init(null, new TrustManager[] {new TrustsAll()}, new SecureRandom());
    var client =
        HttpClient.newBuilder()
            .sslContext(context)
            .version(HttpClient.Version.valueOf(arguments[1]))
            .build();
    var body = new byte[Integer.parseInt(arguments[2])];
    var request =
        HttpRequest.newBuilder(URI.create(arguments[0]))
            .PUT(HttpRequest.BodyPublishers.ofByteArray(body))
            .build();
    var response = client.send(request, HttpResponse.BodyHandlers.ofString());
    System.out.println(response.version() + " " + response.statusCode() + " " + response.body());
    System.exit(0);
  }

  private static class TrustsAll implements X509TrustManager {
    public void checkClientTrusted(X509Certificate[] chain, String type) {}

    public void checkServerTrusted(X509Certificate[] chain, String type) {}

    public X509Certificate[] getAcceptedIssuers() {
      return new X509Certificate[0];
    }
  }
}
