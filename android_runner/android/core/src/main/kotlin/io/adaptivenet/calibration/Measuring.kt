package io.adaptivenet.calibration

import io.adaptivenet.AdaptiveNetException
import io.adaptivenet.CalibrationBounds
import io.adaptivenet.CalibrationEnd
import io.adaptivenet.CalibrationListener
import io.adaptivenet.CalibrationProgress
import io.adaptivenet.DeviceException
import io.adaptivenet.Heat
import io.adaptivenet.TensorBuffer
import io.adaptivenet.serving.Assembler
import io.adaptivenet.serving.Chain
import io.adaptivenet.serving.Pager
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.math.max
import kotlin.math.min
import kotlin.random.Random

internal const val WARMUP = 3 // inferences of a visit before those that count: the controller takes so many for cold
internal const val TIMED = 5 // that count
internal const val ENOUGH_ROUNDS = 3 // to say something from, where time is up
private const val PRECISE = 0.02 // as a share
private const val LOOK_MS = 5_000L // Android does not tell of heat more often than this
private const val COOLER = 0.1 // by how much it must be cooler before it goes on
private const val LEAST_MS = 1e-6 // a nanosecond, where a coarse clock says nothing

/** Time, as a calibration sees it. */
internal interface Clock {
    fun nanoTime(): Long

    /** Waits so long, or until [end] is reached; whether it is. */
    fun await(end: CountDownLatch, ms: Long): Boolean

    object System : Clock {
        override fun nanoTime(): Long = java.lang.System.nanoTime()

        override fun await(end: CountDownLatch, ms: Long): Boolean = end.await(ms, TimeUnit.MILLISECONDS)
    }
}

/**
 * Measures [subnets] in rounds. Every round visits each once, in an order of its own: loads it, warms it up, and times
 * it. What the rounds say is in the [journal]'s timings.
 *
 * Without [limitBytes] the programs of one subnet are loaded at a time; with it, as many as fit. [cancelled] is
 * looked at between two inferences. For one thread.
 */
internal class Measuring(
    private val assembler: Assembler,
    private val subnets: List<List<String>>,
    private val limitBytes: Long?,
    private val bounds: CalibrationBounds,
    private val heat: Heat,
    private val cancelled: CountDownLatch,
    private val journal: Journal,
    private val clock: Clock,
    private val listener: CalibrationListener?,
) {
    private val timings = journal.timings
    private val pager = Pager(subnets.map { assembler.pieces(it) }, limitBytes)
    private val input = TensorBuffer(assembler.pack.graph.cuts.first())
    private val output = TensorBuffer(assembler.pack.graph.cuts.last())
    private val begunNs = clock.nanoTime()
    private var headroom: Double? = null // what was last said
    private var lookedNs: Long? = null

    /** Goes on until all is measured well enough, or something ends it. Releases everything. */
    fun run(): CalibrationEnd = try {
        rounds() ?: CalibrationEnd.DONE
    } finally {
        pager.close()
    }

    private fun rounds(): CalibrationEnd? {
        for (round in 0 until bounds.rounds) {
            for (subnet in subnets.indices.shuffled(Random(round))) { // in the same order when it is resumed
                if (timings.failure(subnet) != null || timings.has(subnet, round)) continue
                (cool() ?: visit(subnet, round))?.let { return if (isEnough(it)) null else it }
                tell(isPaused = false)
            }
            if (timings.uncertainty() <= PRECISE) break
        }
        return null
    }

    /** Time that is up is no reason to give up what was measured. */
    private fun isEnough(end: CalibrationEnd) = end == CalibrationEnd.OUT_OF_TIME && timings.rounds >= ENOUGH_ROUNDS

    /** What ends the calibration now; null: nothing does. */
    private fun end(): CalibrationEnd? = when {
        cancelled.count == 0L -> CalibrationEnd.CANCELLED
        secondsSince(begunNs) >= bounds.maxSeconds -> CalibrationEnd.OUT_OF_TIME
        else -> null
    }

    private fun secondsSince(ns: Long): Double = (clock.nanoTime() - ns) / 1e9

    /** Waits until the device is cool enough, without anything loaded. */
    private fun cool(): CalibrationEnd? {
        if (!isHotter(bounds.pauseAtHeat)) return end()
        pager.close()
        while (isHotter(bounds.pauseAtHeat - COOLER)) {
            end()?.let { return it }
            tell(isPaused = true)
            clock.await(cancelled, LOOK_MS)
        }
        return end()
    }

    private fun isHotter(limit: Double): Boolean {
        val lastNs = lookedNs
        if (lastNs == null || clock.nanoTime() - lastNs >= TimeUnit.MILLISECONDS.toNanos(LOOK_MS)) {
            lookedNs = clock.nanoTime()
            heat.headroom()?.takeIf { it.isFinite() }?.let { headroom = it } // not every look is answered
        }
        return headroom?.let { it >= limit } ?: false
    }

    private fun visit(subnet: Int, round: Int): CalibrationEnd? {
        val fromNs = clock.nanoTime()
        val ms = ArrayList<Double>()
        var failure: String? = null
        try {
            time(load(subnet), ms)?.let { return it }
        } catch (error: AdaptiveNetException) {
            failure = error.message.orEmpty()
        } catch (_: OutOfMemoryError) {
            failure = "there is no memory to load it"
        } catch (error: RuntimeException) {
            failure = error.message ?: error.javaClass.name
        } catch (error: LinkageError) {
            failure = error.message ?: error.javaClass.name
        }
        val seconds = secondsSince(fromNs)
        if (failure == null) {
            journal.visited(subnet, round, ms, seconds)
        } else {
            journal.failed(subnet, round, failure, seconds)
        }
        return null
    }

    private fun time(chain: Chain, ms: MutableList<Double>): CalibrationEnd? {
        for (at in 0 until WARMUP + TIMED) {
            end()?.let { return it }
            val took = chain.timed(assembler.engine, input, output, clock::nanoTime)
            if (at >= WARMUP) ms += max(took, LEAST_MS)
        }
        return null
    }

    private fun load(subnet: Int): Chain {
        val pieces = assembler.pieces(subnets[subnet])
        pager.trim(pieces.toSet())
        val bytes = pager.missing(pieces).sumOf { it.bytes }
        if (!pager.makeRoom(bytes, pieces.toSet(), null)) throw DeviceException("it is above the limit of memory")
        pager.missing(pieces).forEach { pager.add(it, assembler.load(it)) }
        pager.touch(pieces)
        return assembler.chain(subnets[subnet], pager.programs)
    }

    private fun tell(isPaused: Boolean) {
        val visits = subnets.indices.sumOf { timings.visits(it) }
        val share = visits.toDouble() / (subnets.size * bounds.rounds)
        listener?.onProgress(CalibrationProgress(min(share, 1.0), isPaused))
    }
}
