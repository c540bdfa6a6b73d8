/* The same in C: serve-c PACK PROFILE */
#include <adaptivenet/adaptivenet.h>
#include <stdio.h>
#include <stdlib.h>

static void require(adaptivenet_code code) {
  if (code == ADAPTIVENET_OK) return;
  fprintf(stderr, "serve-c: %s\n", adaptivenet_last_error());
  exit(1);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const adaptivenet_budgets budgets = {1000.0, 0, 0, 0};
  const adaptivenet_options options = {sizeof options, .threads = 1}; /* as the profile was made with */
  adaptivenet_model* model;
  require(adaptivenet_open(argv[1], argv[2], &budgets, &options, &model));
  adaptivenet_tensor input, output;
  require(adaptivenet_input(model, &input));
  require(adaptivenet_output(model, &output));
  void* from = calloc(1, input.bytes);
  void* to = malloc(output.bytes);
  adaptivenet_inference inference;
  require(
      adaptivenet_infer(model, from, input.bytes, ADAPTIVENET_NCHW, to, output.bytes, ADAPTIVENET_NCHW, &inference));
  require(adaptivenet_activate(model, 0));
  require(adaptivenet_wait(model));
  require(
      adaptivenet_infer(model, from, input.bytes, ADAPTIVENET_NCHW, to, output.bytes, ADAPTIVENET_NCHW, &inference));
  printf("point %d took %.2f ms\n", (int)inference.point, inference.ms);
  adaptivenet_close(model);
  free(from);
  free(to);
  return 0;
}
