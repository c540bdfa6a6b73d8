package io.adaptivenet.calibration

import io.adaptivenet.CalibrationEnd
import io.adaptivenet.TensorBuffer
import io.adaptivenet.serving.Assembler
import io.adaptivenet.serving.Chain
import kotlin.math.max
import kotlin.math.min
import kotlin.random.Random

internal const val WARMUP = 3 // inferences of a visit before those that count: the controller takes so many for cold
internal const val TIMED = 5 // that count
internal const val ENOUGH_ROUNDS = 3 // to say something from, where time is up
private const val PRECISE = 0.02 // as a share
private const val LEAST_MS = 1e-6 // a nanosecond, where a coarse clock says nothing

/**
 * Measures [subnets] in rounds. Every round visits each once, in an order of its own: loads it, warms it up, and times
 * it. What the rounds say is in the [journal]'s timings. For one thread.
 */
internal class Measuring(
    private val assembler: Assembler,
    private val loading: Loading,
    private val subnets: List<List<String>>,
    private val course: Course,
    private val journal: Journal,
) {
    private val timings = journal.timings
    private val input = TensorBuffer(assembler.pack.graph.cuts.first())
    private val output = TensorBuffer(assembler.pack.graph.cuts.last())

    /** Goes on until all is measured well enough, or something ends it. */
    fun run(): CalibrationEnd {
        for (round in 0 until course.bounds.rounds) {
            for (subnet in subnets.indices.shuffled(Random(round))) { // in the same order when it is resumed
                if (timings.failure(subnet) != null || timings.has(subnet, round)) continue
                val end = course.cool(share) { loading.close() } ?: visit(subnet, round)
                if (end != null) return if (isEnough(end)) CalibrationEnd.DONE else end
                course.tell(share)
            }
            if (timings.uncertainty() <= PRECISE) break
        }
        return CalibrationEnd.DONE
    }

    /** Time that is up is no reason to give up what was measured. */
    private fun isEnough(end: CalibrationEnd) = end == CalibrationEnd.OUT_OF_TIME && timings.rounds >= ENOUGH_ROUNDS

    private fun visit(subnet: Int, round: Int): CalibrationEnd? {
        val fromNs = course.clock.nanoTime()
        val ms = ArrayList<Double>()
        var end: CalibrationEnd? = null
        val failure = failureOf { end = time(loading.load(subnets[subnet]), ms) }
        end?.let { return it }
        val seconds = course.secondsSince(fromNs)
        if (failure == null) {
            journal.visited(subnet, round, ms, seconds)
        } else {
            journal.failed(subnet, round, failure, seconds)
        }
        return null
    }

    private fun time(chain: Chain, ms: MutableList<Double>): CalibrationEnd? {
        for (at in 0 until WARMUP + TIMED) {
            course.end()?.let { return it }
            val took = chain.timed(assembler.engine, input, output, course.clock::nanoTime)
            if (at >= WARMUP) ms += max(took, LEAST_MS)
        }
        return null
    }

    /** Of all that may have to be measured. */
    private val share: Double
        get() {
            val visits = subnets.indices.sumOf { timings.visits(it) }
            return min(1.0, visits.toDouble() / (subnets.size * course.bounds.rounds))
        }
}
