package org.pytorch.executorch;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;

/** A contiguous tensor in direct memory, as in org.pytorch:executorch-android. */
public class Tensor {
  // The numbers of ExecuTorch's scalar types.
  private static final int UINT8 = 0;
  private static final int INT8 = 1;
  private static final int INT32 = 3;
  private static final int INT64 = 4;
  private static final int FLOAT32 = 6;

  private final Buffer data;
  private final long[] shape;
  private final int type;

  private Tensor(Buffer data, long[] shape, int type) {
    long count = 1;
    for (long side : shape) count *= side;
    if (!data.isDirect()) throw new IllegalArgumentException("Data buffer must be direct");
    if (count != data.capacity()) throw new IllegalArgumentException("Inconsistent data capacity and shape");
    this.data = data;
    this.shape = shape.clone();
    this.type = type;
  }

  public static Tensor fromBlob(FloatBuffer data, long[] shape) {
    return new Tensor(data, shape, FLOAT32);
  }

  public static Tensor fromBlob(IntBuffer data, long[] shape) {
    return new Tensor(data, shape, INT32);
  }

  public static Tensor fromBlob(LongBuffer data, long[] shape) {
    return new Tensor(data, shape, INT64);
  }

  public static Tensor fromBlob(ByteBuffer data, long[] shape) {
    return new Tensor(data, shape, INT8);
  }

  public static Tensor fromBlobUnsigned(ByteBuffer data, long[] shape) {
    return new Tensor(data, shape, UINT8);
  }

  public long[] shape() {
    return shape.clone();
  }

  public float[] getDataAsFloatArray() {
    FloatBuffer from = ((FloatBuffer) dataOf(FLOAT32)).duplicate();
    float[] copy = new float[from.clear().remaining()];
    from.get(copy);
    return copy;
  }

  public int[] getDataAsIntArray() {
    IntBuffer from = ((IntBuffer) dataOf(INT32)).duplicate();
    int[] copy = new int[from.clear().remaining()];
    from.get(copy);
    return copy;
  }

  public long[] getDataAsLongArray() {
    LongBuffer from = ((LongBuffer) dataOf(INT64)).duplicate();
    long[] copy = new long[from.clear().remaining()];
    from.get(copy);
    return copy;
  }

  public byte[] getDataAsByteArray() {
    return copied(INT8);
  }

  public byte[] getDataAsUnsignedByteArray() {
    return copied(UINT8);
  }

  /** Of memory of the engine, in the order of this machine. */
  static Tensor of(ByteBuffer bytes, long[] shape, int type) {
    switch (type) {
      case FLOAT32:
        return new Tensor(bytes.asFloatBuffer(), shape, type);
      case INT32:
        return new Tensor(bytes.asIntBuffer(), shape, type);
      case INT64:
        return new Tensor(bytes.asLongBuffer(), shape, type);
      default:
        return new Tensor(bytes, shape, type);
    }
  }

  Buffer data() {
    return data;
  }

  int type() {
    return type;
  }

  private byte[] copied(int wanted) {
    ByteBuffer from = ((ByteBuffer) dataOf(wanted)).duplicate();
    byte[] copy = new byte[from.clear().remaining()];
    from.get(copy);
    return copy;
  }

  private Buffer dataOf(int wanted) {
    if (type != wanted) throw new IllegalStateException("Tensor of type " + type + " cannot return such data");
    return data;
  }
}
