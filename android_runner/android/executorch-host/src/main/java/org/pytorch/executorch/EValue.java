package org.pytorch.executorch;

/** What goes in and out, as in org.pytorch:executorch-android: here always a tensor. */
public class EValue {
  private final Tensor tensor;

  private EValue(Tensor tensor) {
    this.tensor = tensor;
  }

  public static EValue from(Tensor tensor) {
    return new EValue(tensor);
  }

  public Tensor toTensor() {
    return tensor;
  }
}
