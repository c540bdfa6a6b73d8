package org.pytorch.executorch;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** A program that is loaded, as in org.pytorch:executorch-android. */
public class Module {
  static {
    System.load(System.getProperty("adaptivenet.executorch"));
  }

  public static final int LOAD_MODE_FILE = 0;
  public static final int LOAD_MODE_MMAP = 1;

  private long handle;

  private Module(long handle) {
    this.handle = handle;
  }

  public static Module load(String modelPath, int loadMode, int numThreads) {
    return new Module(open(modelPath, loadMode, numThreads));
  }

  /** 0, or the engine's code of what went wrong. */
  public synchronized int loadMethod(String methodName) {
    return loadMethod(handle, methodName);
  }

  public synchronized EValue[] forward(EValue... inputs) {
    Buffer[] data = new Buffer[inputs.length];
    long[][] shapes = new long[inputs.length][];
    int[] types = new int[inputs.length];
    for (int at = 0; at < inputs.length; at++) {
      Tensor tensor = inputs[at].toTensor();
      data[at] = tensor.data();
      shapes[at] = tensor.shape();
      types[at] = tensor.type();
    }
    Object[] given = forward(handle, data, shapes, types);
    EValue[] outputs = new EValue[given.length / 3];
    for (int at = 0; at < outputs.length; at++) {
      ByteBuffer bytes = ((ByteBuffer) given[3 * at]).order(ByteOrder.nativeOrder());
      outputs[at] = EValue.from(Tensor.of(bytes, (long[]) given[3 * at + 1], ((int[]) given[3 * at + 2])[0]));
    }
    return outputs;
  }

  public synchronized void destroy() {
    close(handle);
    handle = 0;
  }

  private static native long open(String path, int mode, int threads);

  private static native int loadMethod(long handle, String name);

  /** For each output its bytes, its shape, and its type in an array of one. */
  private static native Object[] forward(long handle, Buffer[] data, long[][] shapes, int[] types);

  private static native void close(long handle);
}
