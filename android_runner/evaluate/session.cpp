#include "evaluate/session.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "android/machine.h"
#include "core/error.h"

namespace adaptivenet {
namespace {

constexpr std::int64_t kShareHeld = 4;  // of the free memory, one part for the artifacts of chains that are assembled
constexpr int kRunsWhenNew = 2;         // of a chain that has just been assembled, until it takes what it always takes

std::vector<double> sums_of(const Tensor& tensor, const std::string& metric) {
  const auto* values = reinterpret_cast<const float*>(tensor.data.data());
  const std::vector<double> sums(values, values + elements_of(tensor.type.shape));
  if (!std::all_of(sums.begin(), sums.end(), [](double sum) { return std::isfinite(sum); })) {
    throw DeviceError("metric '" + metric + "' gave sums that are not finite numbers");
  }
  return sums;
}

}  // namespace

Session::Session(Pack pack, std::shared_ptr<Engine> engine)
    : pack_(std::move(pack)), engine_(std::move(engine)), assembler_(pack_, *engine_) {}

Measured Session::measure(const std::vector<Subnet>& chains, int rounds, int warmup, const TensorView& image,
                          const Progress& progress) {
  const BlockGraph& graph = pack_.graph();
  require_image(image);
  Programs programs;
  for (const Subnet& names : chains) {
    graph.require_chain(names);
    if (assembler_.joins(names)) continue;
    for (const std::string& name : names) {
      if (!programs.contains(name)) programs[name] = assembler_.load(name);
    }
  }
  const std::vector<bool> stays = held(chains);
  struct Job {
    std::optional<Chain> chain;  // none for one that is made anew in every round
    std::map<int, FeaturePtr> given;
    std::string first;     // its block that is given the image itself, as `infer` does; empty for none
    bool answers = false;  // its output is the network's, copied to the caller as by `infer`
  };
  std::vector<Job> jobs;
  std::set<int> cuts;
  for (std::size_t index = 0; index < chains.size(); ++index) {
    const Subnet& names = chains[index];
    const bool begins = graph.block(names.front()).start == 0;
    const bool ends = graph.block(names.back()).end == graph.end();
    jobs.push_back({{}, {}, begins ? names.front() : "", ends});
    if (stays[index]) jobs.back().chain = ready_chain(names, programs);
    for (const auto& [cut, reader] : first_readers(graph, names)) cuts.insert(cut);
  }
  const std::map<int, Tensor> features = oracle_features(image, cuts, programs);
  std::map<std::pair<int, Layout>, FeaturePtr> inputs;
  for (std::size_t index = 0; index < chains.size(); ++index) {
    Job& job = jobs[index];
    for (const auto& [cut, reader] : first_readers(graph, chains[index])) {
      // The feature is converted here into the layout of the block that reads it, so that this is not measured.
      FeaturePtr& input = inputs[{cut, assembler_.layout(reader)}];
      if (!input) input = engine_->feature(features.at(cut).view(), assembler_.layout(reader));
      job.given[cut] = input;
    }
  }
  Measured measured;
  ChainTimes& times = measured.ms;
  for (const Subnet& names : chains) times.emplace_back(engine_->assembles() ? 1 : names.size());
  Stopwatch watch;
  std::chrono::nanoseconds wall{0}, ran{0};
  std::vector<std::size_t> order(jobs.size());
  std::iota(order.begin(), order.end(), 0);
  for (int round = 0; round < warmup + rounds; ++round) {
    std::shuffle(order.begin(), order.end(), shuffler_);
    for (const std::size_t index : order) {
      Job& job = jobs[index];
      std::optional<Chain> made;
      if (!job.chain) made = ready_chain(chains[index], programs);
      Chain& chain = job.chain ? *job.chain : *made;
      for (int run = made ? -kRunsWhenNew : 0; run <= 0; ++run) chain(job.given);
      watch.start();
      if (!job.first.empty()) job.given[0] = engine_->feature(image, assembler_.layout(job.first));
      const FeaturePtr output = chain(job.given, [&] { watch.split(); });
      if (job.answers) {
        engine_->tensor(*output);
        watch.split_again();
      }
      if (round < warmup) continue;
      for (std::size_t block = 0; block < times[index].size(); ++block) {
        const Stamp &begin = watch.stamps()[block], &end = watch.stamps()[block + 1];
        const auto took = begin.until(end);
        times[index][block].push_back(std::chrono::duration<double, std::milli>(took).count());
        wall += begin.wall_until(end);
        ran += took;
      }
    }
    if (!progress(round + 1, warmup + rounds)) break;
  }
  if (wall.count() > 0) measured.waited = std::max(0.0, 1 - static_cast<double>(ran.count()) / wall.count());
  return measured;
}

Session::Evaluation::Evaluation(Session& session, Plan plan, DataName data, std::size_t images)
    : session_(session), plan_(std::make_unique<const Plan>(std::move(plan))), data_(std::move(data)), kept_(images) {
  if (plan_->kept) kept_ = session.kept_.take(*plan_, data_, images);
  const BlockGraph& graph = session.pack_.graph();
  layout_ = session.assembler_.layout(graph.oracle().front());
  Programs blocks, metrics;
  for (const Instruction& instruction : plan_->instructions) {
    if (const auto* run = std::get_if<Run>(&instruction)) {
      if (graph.block(run->block).start == 0) layout_ = session.assembler_.layout(run->block);
      if (!blocks.contains(run->block)) blocks[run->block] = session.assembler_.load(run->block);
    }
  }
  for (const std::string& name : plan_->metrics) metrics[name] = session.metric(name);
  runner_ = std::make_unique<PlanRunner>(*plan_, blocks, metrics);
}

std::vector<std::vector<std::vector<double>>> Session::Evaluation::operator()(const TensorView& image,
                                                                              const TensorView& label) {
  Engine& engine = *session_.engine_;
  session_.require_image(image);
  FeaturePtr labels;
  if (plan_->reads_labels()) {
    if (label.data == nullptr || label.type != session_.pack_.label()) {
      throw DataError("a metric needs labels of " + to_string(session_.pack_.label()) + "; these are " +
                      (label.data == nullptr ? "none" : to_string(label.type)));
    }
    labels = engine.feature(label, Layout::kContiguous);
  }
  std::vector<std::vector<std::vector<double>>> sums(plan_->metrics.size());
  for (auto& of_metric : sums) of_metric.resize(plan_->subnets.size());
  KeptOfImage& kept = kept_.at(image_++);
  (*runner_)(engine.feature(image, layout_), labels, kept, [&](const Score& score, const Feature& output) {
    const auto metric = std::find(plan_->metrics.begin(), plan_->metrics.end(), score.metric);
    sums[metric - plan_->metrics.begin()][score.subnet] = sums_of(engine.tensor(output), score.metric);
  });
  return sums;
}

void Session::Evaluation::finish() {
  if (plan_->kept) session_.kept_.put(*plan_, data_, std::move(kept_));
}

Chain Session::ready_chain(const Subnet& blocks, const Programs& programs) {
  if (!assembler_.joins(blocks)) return assembler_.chain(blocks, programs);
  const Piece joined = assembler_.pieces(blocks).front();
  return assembler_.chain(blocks, {{joined.name, assembler_.load(joined)}});
}

std::vector<bool> Session::held(const std::vector<Subnet>& chains) const {
  std::int64_t left = available_bytes() / kShareHeld;
  std::vector<bool> stays;
  for (const Subnet& blocks : chains) {
    const std::int64_t bytes = assembler_.joins(blocks) ? assembler_.bytes_of(blocks) : 0;
    stays.push_back(bytes <= left);
    if (stays.back()) left -= bytes;
  }
  return stays;
}

ProgramPtr Session::metric(const std::string& name) {
  const Metric& metric = pack_.metrics().at(name);
  const Artifact& artifact = pack_.metric_artifact(name, engine_->backend());
  const Shape sums{static_cast<std::int64_t>(metric.sums.size())};
  Signature signature{{}, {{sums, DType::kFloat32}}};
  for (const Operand operand : metric.operands) {
    signature.takes.push_back(operand == Operand::kLabel ? pack_.label() : pack_.graph().cuts().back());
  }
  return engine_->load("metric '" + name + "'", pack_.read(artifact), artifact.layout, signature);
}

void Session::require_image(const TensorView& image) const {
  const TensorType& wanted = pack_.graph().cuts().front();
  if (image.type != wanted) {
    throw DataError("an image is " + to_string(image.type) + "; the pack takes " + to_string(wanted));
  }
}

std::map<int, Tensor> Session::oracle_features(const TensorView& image, const std::set<int>& cuts,
                                               const Programs& programs) {
  std::map<int, Tensor> found;
  const auto* bytes = image.data;
  found[0] = {image.type, {bytes, bytes + adaptivenet::bytes_of(image.type)}};
  if (cuts.empty()) return found;
  const BlockGraph& graph = pack_.graph();
  std::map<int, FeaturePtr> features = {{0, engine_->feature(image, assembler_.layout(graph.oracle().front()))}};
  // Blocks that are not loaded already are loaded one at a time and dropped. The head is never run.
  for (int cut = 1; cut <= *cuts.rbegin(); ++cut) {
    const std::string& name = graph.oracle()[cut - 1];
    const auto there = programs.find(name);
    const ProgramPtr loaded = there != programs.end() ? there->second : assembler_.load(name);
    std::vector<FeaturePtr> operands;
    for (const int read : graph.reads(graph.block(name))) operands.push_back(features.at(read));
    features[cut] = loaded->run(operands, true);
    if (cuts.contains(cut)) found[cut] = engine_->tensor(*features[cut]);
    if (!std::binary_search(graph.kept().begin(), graph.kept().end(), cut - 1)) features.erase(cut - 1);
  }
  return found;
}

}  // namespace adaptivenet
