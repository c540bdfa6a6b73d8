package io.adaptivenet.control

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sqrt

/** What a latency has changed of what is believed. */
internal enum class Change { NONE, SLOWER, FASTER, SURER, NOISE }

// The reasons are in toolkit/serving/speed.py.
private const val GROUP = 32
private const val SURE = 16
private const val BAND = 0.03
private const val LEAST_NOISE = 0.01
private const val MOST_NOISE = 0.10
private const val FIRST_NOISE = 0.05
private const val GAIN = 0.25
private const val SLOW_GAIN = 0.125
private const val ALIKE = 1.5
private const val MOST_ALIKE = 2.0
private const val SLACK = 1.5
private const val CUT = 4.0
private const val SLOWER_AT = 8.0
private const val FASTER_AT = 12.0
private const val MOST_RATIO = 1e6
private const val MARGIN = 3.0
private const val MEDIAN = 1.2533141373155003
private const val NORMAL = 0.886226925452758
private const val MAD = 1.482602218505602
private const val COLD = 3
private const val YOUNG = 5
private const val EXTREME = 1.5
private const val FAR = 2.0
private val PERCENTILES = doubleArrayOf(50.0, 75.0, 90.0, 95.0, 99.0)
private val SIGMAS = doubleArrayOf(0.0, 0.6745, 1.2816, 1.6449, 2.3263)

/** Of [size] ratios in ascending order. */
private fun medianOf(ranked: DoubleArray, size: Int): Double {
    val half = size / 2
    return if (size % 2 == 1) ranked[half] else (ranked[half - 1] + ranked[half]) / 2
}

/** The standard error of a group's median, if its ratios have nothing to do with each other. */
private fun errorOf(noise: Double): Double = MEDIAN * noise / sqrt(GROUP.toDouble())

/**
 * How slow the device is right now, and how much it wavers. It learns as `toolkit/serving/speed.py` does, which gives
 * the reasons and the sources; both compute the same bits.
 */
internal class Speed(private var percentile: Double) {
    /** How many times slower than profiled. */
    var slowdown = 1.0
        private set

    /** Sigma, as a share of the median. */
    var noise = FIRST_NOISE
        private set

    private var drift = 1.0 // the slowdown as the groups since then have it, smoothed
    private var sure = GROUP // from how many ratios the slowdown is known
    private var error = errorOf(FIRST_NOISE) // the standard error of a group's median, as a share of it
    private var alike = 1.0 // by what sums grow too fast, because ratios that follow each other are alike
    private var median = 0.0 // of the group before, when nothing has changed since
    private var jumps = 0.0 // how far it is from one group to the next, smoothed
    private val ratios = DoubleArray(GROUP) // since the slowdown last changed or another point runs, oldest first
    private var size = 0
    private var count = 0 // of those, since a group was last looked at
    private var up = 0.0 // the two cumulative sums,
    private var down = 0.0
    private var upRun = 0 // and over how many ratios since they were 0
    private var downRun = 0
    private val kept = DoubleArray(4 * GROUP) // ratios by the median of their group, oldest first
    private var keptSize = 0
    private val recent = DoubleArray(2 * GROUP) // the last ratios, whatever has changed meanwhile, oldest first
    private var recentSize = 0
    private var since = 0 // of those, since the point that runs began to
    private var young = 0 // inferences since the point that runs began to
    private var least = Double.POSITIVE_INFINITY // of their ratios by the slowdown
    private var trial = false // the first group of a point that was stepped up to

    /** The percentile by the median. */
    var tail = assumedTail()
        private set

    val isSure: Boolean get() = sure >= SURE

    /** The slowdown to reckon with: surely no less than it is. */
    val most: Double
        get() = if (slowdown == 1.0) 1.0 else slowdown * (1 + MARGIN * error / sqrt(sure.toDouble() / GROUP.toDouble()))

    /**
     * How many of the last ratios, of [allPoints] or of the one that runs, were above [ratio] by more than noise, and of
     * how many.
     */
    fun above(ratio: Double, allPoints: Boolean): Pair<Int, Int> {
        val far = ratio * (1 + FAR * max(BAND, noise))
        val of = if (allPoints) recentSize else since
        return (recentSize - of until recentSize).count { recent[it] > far } to of
    }

    /** Budgets are for another percentile from now on. */
    fun require(percentile: Double) {
        this.percentile = percentile
        tail = percentileNow()
    }

    /** Another point runs from now on; [isUp]: a slower one. */
    fun switched(isUp: Boolean) {
        forget(0)
        since = 0
        young = 0
        least = Double.POSITIVE_INFINITY
        trial = isUp
        median = 0.0
    }

    /**
     * After an inference that took [given] times what was profiled. [ofAnother]: of a point that ran before, while the
     * one that shall run is loaded. It is not cold.
     */
    fun observe(given: Double, ofAnother: Boolean): Change {
        val ratio = min(max(given, 1 / MOST_RATIO), MOST_RATIO)
        val by = ratio / slowdown
        val isYoung = young < YOUNG && !ofAnother
        if (isYoung) {
            young++
            least = min(least, by)
            if (young <= COLD) return Change.NONE
        }
        if (recentSize == recent.size) {
            recent.copyInto(recent, 0, 1, recent.size)
            recentSize--
        }
        recent[recentSize++] = ratio
        since = min(since + 1, recent.size)
        if (size == GROUP) {
            ratios.copyInto(ratios, 0, 1, GROUP)
            size--
        }
        ratios[size++] = ratio
        count++
        if (isYoung && young == YOUNG && least > EXTREME && size > 1) {
            return believe((ratios[size - 2] + ratio) / 2, 2, Change.SLOWER)
        }
        val sigma = max(BAND, noise) * alike
        val z = (by - 1) / sigma
        up = max(0.0, up + min(z, CUT) - SLACK)
        upRun = if (up > 0) min(upRun + 1, size) else 0
        down = max(0.0, down + min(-z, CUT) - SLACK)
        downRun = if (down > 0) min(downRun + 1, size) else 0
        if (up >= SLOWER_AT) {
            val middle = medianOfLast(upRun)
            val far = middle * (1 + CUT * sigma)
            if (ratio <= far) return believe(middle, upRun, Change.SLOWER)
            // It does not belong to the others: a hiccup, or the first of a step that is larger. The next one tells.
            val before = ratios[size - 2]
            if (before > far) return believe(min(ratio, before), 2, Change.SLOWER)
        }
        if (down >= FASTER_AT) return believe(medianOfLast(downRun), downRun, Change.FASTER)
        if (sure < SURE && size == SURE) return believe(medianOfLast(size), SURE, Change.SURER)
        return if (count >= GROUP && size == GROUP) lookAtGroup() else Change.NONE
    }

    /** After 32 ratios without a step. */
    private fun lookAtGroup(): Change {
        val ranked = ratios.sortedArray()
        val middle = medianOf(ranked, GROUP)
        val before = error
        val off = middle / slowdown - 1
        val wasTrial = trial
        trial = false
        count = 0
        if (sure < GROUP) {
            learn(ranked, middle)
            return believe(middle, GROUP, Change.SURER)
        }
        if (off > BAND + (if (wasTrial) before else 3 * before)) return believe(middle, GROUP, Change.SLOWER)
        if (off < -(BAND + 3 * before)) return believe(middle, GROUP, Change.FASTER)
        val change = learn(ranked, middle)
        if (slowdown != 1.0) {
            drift += GAIN * (middle - drift)
            if (abs(drift - 1) <= BAND || abs(drift - slowdown) > before * slowdown) {
                return believe(drift, GROUP, Change.SURER)
            }
        }
        return change
    }

    /** The noise and the tail, from a group in ascending order. */
    private fun learn(ranked: DoubleArray, middle: Double): Change {
        val deviations = DoubleArray(GROUP) { abs(ranked[it] - middle) }.also { it.sort() }
        val seen = min(max(MAD * medianOf(deviations, GROUP) / middle, LEAST_NOISE), MOST_NOISE)
        noise += GAIN * (seen - noise)
        if (median > 0) jumps += SLOW_GAIN * (abs(middle / median - 1) - jumps)
        median = middle
        val jump = NORMAL * jumps
        error = max(errorOf(noise), jump)
        alike = min(max(jump / (ALIKE * errorOf(noise)), 1.0), MOST_ALIKE)
        if (keptSize == kept.size) {
            kept.copyInto(kept, 0, GROUP, kept.size)
            keptSize -= GROUP
        }
        for (ratio in ranked) kept[keptSize++] = ratio / middle
        val now = percentileNow()
        if (abs(now - tail) <= BAND * tail) return Change.NONE
        tail = now
        return Change.NOISE
    }

    private fun believe(value: Double, from: Int, change: Change): Change {
        drift = value
        slowdown = if (abs(value - 1) <= BAND) 1.0 else value
        sure = from
        if (change == Change.SURER) {
            forget(size)
        } else {
            forget(min(from, size))
            median = 0.0
        }
        return change
    }

    /** All ratios but the last few, and the sums. */
    private fun forget(but: Int) {
        ratios.copyInto(ratios, 0, size - but, size)
        size = but
        count = 0
        up = 0.0
        down = 0.0
        upRun = 0
        downRun = 0
    }

    private fun medianOfLast(number: Int): Double =
        medianOf(ratios.copyOfRange(size - number, size).also { it.sort() }, number)

    /** The percentile of the ratios that were kept, by nearest rank; what normal noise has while they are few. */
    private fun percentileNow(): Double {
        if (percentile == 50.0 || keptSize < kept.size) return assumedTail()
        val ranked = kept.sortedArray()
        val rank = ceil(percentile * ranked.size.toDouble() / 100).toInt()
        return max(1.0, ranked[rank - 1])
    }

    private fun assumedTail(): Double {
        var at = 1
        while (percentile > PERCENTILES[at]) at++
        val low = PERCENTILES[at - 1]
        val fromSigma = SIGMAS[at - 1]
        val sigmas = fromSigma + (SIGMAS[at] - fromSigma) * (percentile - low) / (PERCENTILES[at] - low)
        return 1 + sigmas * noise
    }
}
