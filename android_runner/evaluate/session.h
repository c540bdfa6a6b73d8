// One pack, opened with one engine, for the pack, engine, threads and cores that a request names.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/pack.h"
#include "engines/engine.h"
#include "evaluate/interpreter.h"
#include "evaluate/kept.h"
#include "evaluate/plan.h"

namespace adaptivenet {

struct PageIn {
  Subnet loaded;
  Subnet released;
  std::int64_t bytes_in = 0;
  std::int64_t bytes_out = 0;
};

// Milliseconds of every chain, in the order of its blocks, round by round: [chain][block][round]. Where the engine
// makes one program of a chain, it has one list, of what all blocks took together.
using ChainTimes = std::vector<std::vector<std::vector<double>>>;

// `waited` is the share of the time of the runs that were timed in which other programs had the processors. It is not
// in the milliseconds.
struct Measured {
  ChainTimes ms;
  double waited = 0;
};

// Called as progress(done, total) after each round or image; the work is given up when it answers false.
using Progress = std::function<bool(std::size_t done, std::size_t total)>;

class Session {
 public:
  // Throws PackError when the pack has no artifacts for the engine.
  Session(Pack pack, std::unique_ptr<Engine> engine);

  const Pack& pack() const { return pack_; }

  // The time of every block within its running chain, in every round after the warm-up. Every round times each chain
  // once, in a new random order, after it has run once untimed: what ran before does not matter then. A chain starts
  // from the oracle's features for `image`; from cut 0 and to the last cut it is timed as `infer` is. Chains that are
  // assembled have weights of their own, each: those beyond a quarter of the free memory are assembled anew in every
  // round, untimed. Throws GraphError and DataError.
  Measured measure(const std::vector<Subnet>& chains, int rounds, int warmup, const TensorView& image,
                   const Progress& progress);

  // A plan that is ready to be run on image after image of some data.
  class Evaluation {
   public:
    // Throws FeaturesLost when the plan begins from features that are not kept. Nothing is kept of the data then; nor
    // is it when the evaluation is destroyed before `finish`.
    Evaluation(Session& session, Plan plan, DataName data, std::size_t images);

    // Evaluates the next image, with its label; images come in their order. Both have the batch first, and the data of
    // a missing label is null. Returns the sums of every metric for every subnet, [metric][subnet] -> sums, in the
    // order of the plan. Throws DataError when the image or the label does not fit.
    std::vector<std::vector<std::vector<double>>> operator()(const TensorView& image, const TensorView& label);

    // To be called after the last image: keeps the features that the plan left, for later plans.
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

  // Loads the blocks that are missing, then releases those that are no longer used. When it throws, nothing has
  // changed.
  PageIn activate(const Subnet& subnet);

  // The active subnet's output. Throws DeviceError when none is active, DataError when `image` does not fit.
  Tensor infer(const TensorView& image);

  const Subnet& active() const { return active_; }
  std::int64_t bytes_of(const Subnet& blocks) const;  // of their artifacts

 private:
  // Whether the blocks run as one program: where the engine can do that, several blocks, and one that is a whole
  // network.
  bool assembles(const Subnet& blocks) const;
  Chain ready_chain(const Subnet& blocks, const Programs& programs);  // assembled, or by their programs
  std::vector<bool> held(const std::vector<Subnet>& chains) const;    // which stay loaded while they are measured
  ProgramPtr program(const std::string& block);                       // loaded, unless it is among the active ones
  ProgramPtr metric(const std::string& name);
  Layout layout(const std::string& block) const;
  void require_image(const TensorView& image) const;
  std::map<int, Tensor> oracle_features(const TensorView& image, const std::set<int>& cuts, const Programs& programs);

  Pack pack_;
  std::unique_ptr<Engine> engine_;
  Programs programs_;  // of the active subnet, where its blocks are loaded one by one
  Subnet active_;
  Chain chain_;  // the active subnet
  KeptFeatures kept_;
  std::mt19937 shuffler_{0};
};

}  // namespace adaptivenet
