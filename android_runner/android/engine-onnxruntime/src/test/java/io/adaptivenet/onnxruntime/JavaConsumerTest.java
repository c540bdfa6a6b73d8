package io.adaptivenet.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.adaptivenet.AdaptiveModel;
import io.adaptivenet.Budget;
import io.adaptivenet.Inference;
import io.adaptivenet.Options;
import io.adaptivenet.ProfileException;
import io.adaptivenet.Signals;
import io.adaptivenet.Status;
import io.adaptivenet.TensorBuffer;
import java.io.File;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The library as a program in Java uses it. */
class JavaConsumerTest {
  private final File folder = new File(System.getProperty("adaptivenet.packs"), "tiny");
  private final File pack = new File(folder, "pack");
  private final File profile = new File(folder, "onnxruntime.json");

  @Test
  void servesFromJava() {
    Options options =
        new Options.Builder().budget(Budget.parse("75%")).percentile(95).engine(new OnnxRuntime()).build();
    try (AdaptiveModel model = AdaptiveModel.create(pack, profile, options)) {
      TensorBuffer input = model.createInputBuffer();
      TensorBuffer output = model.createOutputBuffer();
      input.write(new float[input.getType().getElements()]);
      Inference inference = model.run(input, output);
      assertTrue(inference.getMs() > 0);
      assertEquals(List.of(1L, 5L), output.getType().getShape());
      model.setBudget(Budget.milliseconds(1.5e6));
      model.observe(new Signals(740.0));
      assertTrue(model.await(60_000));
      Status status = model.getStatus();
      assertEquals(0, status.getPoint());
    }
  }

  @Test
  void opensWithoutOptions() {
    try (AdaptiveModel model = AdaptiveModel.create(pack, profile)) {
      assertEquals("pack", model.getPack().getName());
      assertEquals(List.of("daisy", "poppy", "rose", "tulip", "violet"), model.getPack().getClasses());
    }
    File other = new File(folder, "onnxruntime-answers.json");
    assertThrows(ProfileException.class, () -> AdaptiveModel.create(pack, other));
  }
}
