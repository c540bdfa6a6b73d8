// Serves a pack under a budget, and a smaller one later: serve PACK PROFILE
#include <adaptivenet/model.h>

#include <cstdio>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: serve PACK PROFILE\n");
    return 2;
  }
  try {
    using adaptivenet::ServedModel;
    adaptivenet_options options = {};
    options.threads = 1;                                                         // as the profile was made with
    ServedModel model = ServedModel::open(argv[1], argv[2], {1000.0}, options);  // 1000 ms
    std::vector<float> input(model.input().bytes / sizeof(float), 0.5f);
    std::vector<float> output(model.output().bytes / sizeof(float));

    for (int at = 0; at < 20; ++at) model.infer(input, output);
    adaptivenet_inference inference = model.infer(input, output, ADAPTIVENET_NHWC);
    std::printf("point %d of %zu took %.2f ms, output[0] = %f\n", static_cast<int>(inference.point), model.points(),
                inference.ms, output[0]);

    // Returns at once; another subnet is loaded beside this one, and takes its place between two inferences.
    model.activate(0);
    while (inference.point != 0) inference = model.infer(input, output);
    std::printf("point 0 took %.2f ms, output[0] = %f\n", inference.ms, output[0]);

    adaptivenet_signals signals = adaptivenet_no_signals();
    signals.headroom = 0.5;
    model.observe(signals);
    const adaptivenet_status status = model.status();
    std::printf("%.3f MB are loaded: %s\n", static_cast<double>(status.resident_bytes) / 1e6, status.why);
  } catch (const adaptivenet::ModelError& error) {
    std::fprintf(stderr, "serve: %s\n", error.what());
    return 1;
  }
  return 0;
}
