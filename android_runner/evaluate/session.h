// Measures and scores the blocks of a pack with an engine.
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
#include "evaluate/stopwatch.h"
#include "serving/assembler.h"

namespace adaptivenet {

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
  Session(Pack pack, std::shared_ptr<Engine> engine);

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

 private:
  Chain ready_chain(const Subnet& blocks, const Programs& programs);  // as one program where the engine makes one
  std::vector<bool> held(const std::vector<Subnet>& chains) const;    // which stay loaded while they are measured
  ProgramPtr metric(const std::string& name);
  void require_image(const TensorView& image) const;
  std::map<int, Tensor> oracle_features(const TensorView& image, const std::set<int>& cuts, const Programs& programs);

  Pack pack_;
  std::shared_ptr<Engine> engine_;
  Assembler assembler_;
  KeptFeatures kept_;
  std::mt19937 shuffler_{0};
};

}  // namespace adaptivenet
