// One pack open with one engine: what a request's pack, engine, threads and cores stand for.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine.h"
#include "interpreter.h"
#include "kept.h"
#include "pack.h"
#include "plan.h"

namespace adaptivenet {

struct PageIn {
  Subnet loaded;
  Subnet released;
  std::int64_t bytes_in = 0;
  std::int64_t bytes_out = 0;
};

// Milliseconds of every chain, in the order of its blocks, round by round: [chain][block][round].
using ChainTimes = std::vector<std::vector<std::vector<double>>>;

// Called as progress(done, total) after each round or image; the work is given up when it answers false.
using Progress = std::function<bool(std::size_t done, std::size_t total)>;

class Session {
 public:
  // Throws PackError when the pack has no artifacts for the engine.
  Session(Pack pack, std::unique_ptr<Engine> engine);

  const Pack& pack() const { return pack_; }

  // The time of every block within its running chain, in every round, warm-up left out. Every round runs each chain
  // once, in an order shuffled anew. A chain starts from the oracle's features for `image`. Throws GraphError, DataError.
  ChainTimes measure(const std::vector<Subnet>& chains, int rounds, int warmup, const TensorView& image,
                     const Progress& progress);

  // A plan that is ready to be run on image after image of some data.
  class Evaluation {
   public:
    // Throws FeaturesLost when the plan begins from features that are not kept. Nothing is kept of the data then, nor
    // when it is given up before `finish`.
    Evaluation(Session& session, Plan plan, DataName data, std::size_t images);

    // The sums of every metric for every subnet: [metric][subnet] -> sums, in the order of the plan. The next image, in
    // their order, and its label. Throws DataError when one (batch first; a label's data null for none) does not fit.
    std::vector<std::vector<std::vector<double>>> operator()(const TensorView& image, const TensorView& label);

    // After the last image: keeps what the plan has left, for the plans to come.
    void finish();

    const Plan& plan() const { return *plan_; }
    long block_runs() const { return runner_->block_runs(); }

   private:
    Session& session_;
    std::unique_ptr<const Plan> plan_;  // the runner points into it
    std::unique_ptr<PlanRunner> runner_;
    DataName data_;
    std::vector<KeptOfImage> kept_;
    std::size_t image_ = 0;  // the next one
    Layout layout_ = Layout::kContiguous;
  };

  // Drops all features that plans have kept.
  void forget() { kept_.clear(); }

  // Loads the blocks that are not loaded, then releases those no longer used. When it throws, nothing has changed.
  PageIn activate(const Subnet& subnet);

  // The active subnet's output. Throws DeviceError when none is active, DataError when `image` does not fit.
  Tensor infer(const TensorView& image);

  const Subnet& active() const { return active_; }
  std::int64_t bytes_of(const Subnet& blocks) const;  // of their artifacts

 private:
  ProgramPtr program(const std::string& block);  // loaded, unless it is among the active ones
  ProgramPtr metric(const std::string& name);
  Layout layout(const std::string& block) const;
  void require_image(const TensorView& image) const;
  std::map<int, Tensor> oracle_features(const TensorView& image, const std::set<int>& cuts, const Programs& programs);

  Pack pack_;
  std::unique_ptr<Engine> engine_;
  Programs programs_;  // of the active subnet
  Subnet active_;
  Chain chain_;  // the active subnet
  KeptFeatures kept_;
  std::mt19937 shuffler_{0};
};

}  // namespace adaptivenet
