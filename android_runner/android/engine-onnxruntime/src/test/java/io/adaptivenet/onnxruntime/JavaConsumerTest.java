package io.adaptivenet.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.adaptivenet.AdaptiveModel;
import io.adaptivenet.Budget;
import io.adaptivenet.DataException;
import io.adaptivenet.Inference;
import io.adaptivenet.Input;
import io.adaptivenet.InputRow;
import io.adaptivenet.Options;
import io.adaptivenet.ProfileException;
import io.adaptivenet.Signals;
import io.adaptivenet.Status;
import io.adaptivenet.TensorBuffer;
import io.adaptivenet.graph.Layout;
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
  void takesSeveralInputsByName() {
    File several = new File(folder.getParentFile(), "row");
    File itsProfile = new File(several, "onnxruntime.json");
    try (AdaptiveModel model = AdaptiveModel.create(new File(several, "pack"), itsProfile)) {
      List<String> names = model.getPack().getInputs().stream().map(Input::getName).toList();
      assertEquals(List.of("ids", "mask", "pixels"), names);
      InputRow row = model.createInputRow();
      row.write("ids", new long[] {3, 0, 7, 1});
      row.write("mask", new boolean[] {true});
      row.write("pixels", new float[] {0.5f, -1, 2, 0, 0, 0.25f});
      TensorBuffer output = model.createOutputBuffer();
      model.run(row, output);
      assertArrayEquals(new float[] {13.75f, 34}, output.readFloats(), 1e-4f);
      DataException error = assertThrows(DataException.class, () -> row.write("mask", new int[1]));
      assertEquals("the row: 'mask' has dtype int32; give bool", error.getMessage());
    }
    try (AdaptiveModel model = AdaptiveModel.create(pack, profile)) {
      DataException error = assertThrows(DataException.class, model::createInputRow);
      assertTrue(error.getMessage().startsWith("the network has one input"), error.getMessage());
      TensorBuffer input = model.createInputBuffer(Layout.CHANNELS_LAST);
      assertTrue(model.run(input, model.createOutputBuffer()).getMs() > 0);
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
