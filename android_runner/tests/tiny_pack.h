// A small pack, and a plan for it, to be spoilt by the tests and by the fuzz targets.
//
//     0 ── o0, p0 ──> 1 ── o1 ──> 2 ── o2 ──> 3 ── o3 ──> 4      1 ── m1 ──> 3      2 ── m3 ──> 4
//
// Cut 1 is a tap: the heads o3 and m3 read it too. The metrics are top1 (output, label) and agreement (output, oracle).
#pragma once

#include <string>

#include "core/json.h"

namespace adaptivenet {

// Its manifest, without a digest.
Json tiny_manifest();

// The text of a manifest with the digest that it should have.
std::string with_digest(Json manifest);

// Scores o0, m1, o3 and o0, o1, m3 by top1.
Json tiny_plan();

}  // namespace adaptivenet
