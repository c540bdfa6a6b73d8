package io.adaptivenet.sample;

import io.adaptivenet.AdaptiveModel;
import io.adaptivenet.Budget;
import io.adaptivenet.Inference;
import io.adaptivenet.Options;
import io.adaptivenet.Status;
import io.adaptivenet.TensorBuffer;
import io.adaptivenet.bundle.BundleIndex;
import java.io.File;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.util.List;

/**
 * Runs a bundle of {@code adaptivenet-export --bundle android} on a JVM, as a server or a desktop program would: {@code
 * Classify BUNDLE [BUDGET]}. It prints the scores that every point of the front gives for an input of equal numbers, and
 * what serves in the end.
 */
public final class Classify {
    private static final float VALUE = 0.5f;

    private Classify() {}

    public static void main(String[] arguments) throws IOException {
        if (arguments.length < 1 || arguments.length > 2) {
            System.err.println("usage: Classify BUNDLE [BUDGET], for instance: Classify app/assets/efficientnet 75%");
            System.exit(2);
        }
        File bundle = new File(arguments[0]);
        BundleIndex index = BundleIndex.parse(Files.readAllBytes(new File(bundle, BundleIndex.FILE).toPath()));
        File profile = new File(bundle, index.profileFor(null).getFile());
        Budget budget = Budget.parse(arguments.length > 1 ? arguments[1] : "100%");
        Options options = new Options.Builder().budget(budget).build();
        try (AdaptiveModel model = AdaptiveModel.create(bundle, profile, options)) {
            TensorBuffer input = model.createInputBuffer();
            TensorBuffer output = model.createOutputBuffer();
            FloatBuffer values = input.getFloats();
            while (values.hasRemaining()) {
                values.put(VALUE);
            }
            for (int point = 0; point < model.getPoints().size(); point++) {
                model.activate(point);
                model.await();
                Inference inference = model.run(input, output);
                System.out.println("point " + inference.getPoint() + ": " + scores(output.readFloats()));
            }
            model.setBudget(budget);
            model.await();
            Status status = model.getStatus();
            List<String> classes = model.getPack().getClasses();
            System.out.println("serving " + String.join(" ", status.getSubnet()));
            System.out.println("classes " + (classes == null ? "unknown" : String.join(" ", classes)));
        }
    }

    private static String scores(float[] values) {
        StringBuilder text = new StringBuilder();
        for (float value : values) {
            text.append(text.length() == 0 ? "" : " ").append(value);
        }
        return text.toString();
    }
}
