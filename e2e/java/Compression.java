import io.grpc.CallOptions;
import io.grpc.Codec;
import io.grpc.CompressorRegistry;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.DeflaterOutputStream;
import java.util.zip.InflaterInputStream;

/**
 * Calls Predict with messages that are compressed in several ways, over one channel.
 *
 * <p>Arguments: host:port, and a file with the request in protobuf's binary form. Prints a line
 * for each call: the compression, and "OK" and the length of the answer, or the status and its
 * description, with tabs between them.
 */
final class Compression {
  private static final MethodDescriptor.Marshaller<byte[]> BYTES =
      new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] message) {
          return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream stream) {
          try (stream) {
            return stream.readAllBytes();
          } catch (IOException e) {
            throw new UncheckedIOException(e);
          }
        }
      };

  /** What grpc-java does not have, and other clients do. */
  private static final Codec DEFLATE =
      new Codec() {
        @Override
        public String getMessageEncoding() {
          return "deflate";
        }

        @Override
        public InputStream decompress(InputStream is) {
          return new InflaterInputStream(is);
        }

        @Override
        public OutputStream compress(OutputStream os) {
          return new DeflaterOutputStream(os);
        }
      };

  public static void main(String[] args) throws IOException {
    byte[] request = Files.readAllBytes(Path.of(args[1]));
    CompressorRegistry.getDefaultInstance().register(DEFLATE);
    MethodDescriptor<byte[], byte[]> predict =
        MethodDescriptor.newBuilder(BYTES, BYTES)
            .setType(MethodDescriptor.MethodType.UNARY)
            .setFullMethodName("inference.v1.Inference/Predict")
            .build();
    ManagedChannel channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
    for (String compression : new String[] {"deflate", "gzip", "identity"}) {
      CallOptions options = CallOptions.DEFAULT.withCompression(compression);
      try {
        byte[] answer = ClientCalls.blockingUnaryCall(channel, predict, options, request);
        System.out.printf("%s\tOK\t%d%n", compression, answer.length);
      } catch (StatusRuntimeException e) {
        System.out.printf(
            "%s\t%s\t%s%n", compression, e.getStatus().getCode(), e.getStatus().getDescription());
      }
    }
    channel.shutdownNow();
  }
}
