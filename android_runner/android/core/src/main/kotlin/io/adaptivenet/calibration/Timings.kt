package io.adaptivenet.calibration

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.pow

private const val TRIES = 2 // of a subnet that fails
private const val FEW = 3 // subnets of which a round must tell, before it is the device that was slow in it
private const val STEADY = 0.02 // a device this close to its usual speed has it
private const val CLOSE = 0.05 // visits this close to the others are trusted, however alike those are
private const val FAR = 4 * 1.4826 // median deviations: four standard deviations, where timings are spread normally
private const val OUTSIDE = 0.025 // at either end of a 95% interval

/** What a subnet takes: the median of [repetitions] timings and their interquartile range, in milliseconds. */
internal class Measured(val medianMs: Double, val spreadMs: Double, val repetitions: Int)

/**
 * The timings of [count] subnets, each visited at most once a round for several inferences on end.
 *
 * The rounds tell how slow the device was: where most subnets took longer than they usually do, all timings of that
 * round are divided by how much. A visit that is still far from the subnet's others was disturbed by something else,
 * and is not trusted.
 */
internal class Timings(private val count: Int) {
    private val visits = List(count) { HashMap<Int, List<Double>>() } // milliseconds by round
    private val failures = List(count) { ArrayList<String>() }

    fun add(subnet: Int, round: Int, ms: List<Double>) {
        visits[subnet][round] = ms
    }

    /** The subnet did not load or run. */
    fun fail(subnet: Int, message: String) {
        failures[subnet] += message
    }

    fun isSubnet(subnet: Int): Boolean = subnet in 0 until count

    fun has(subnet: Int, round: Int): Boolean = round in visits[subnet]

    /** In how many rounds it was timed. */
    fun visits(subnet: Int): Int = visits[subnet].size

    /** Why the subnet is not tried again; null: it is. */
    fun failure(subnet: Int): String? = failures[subnet].lastOrNull()?.takeIf { failures[subnet].size >= TRIES }

    /** How often every subnet that is not given up was visited at least; 0 where all are. */
    val rounds: Int
        get() = (0 until count).filter { failure(it) == null }.minOfOrNull { visits[it].size } ?: 0

    /** What each subnet takes; null for those that were not measured, or are given up. */
    fun measured(): List<Measured?> = trusted().mapIndexed { subnet, visits ->
        val ranked = visits.flatten().sorted()
        if (ranked.isEmpty() || failure(subnet) != null) return@mapIndexed null
        Measured(ranked.percentile(50), ranked.percentile(75) - ranked.percentile(25), ranked.size)
    }

    /**
     * Half the 95% interval of what a visit takes, as a share of it: of the subnet that is known least. Infinite where
     * one has fewer than six visits that are trusted.
     */
    fun uncertainty(): Double = trusted().filterIndexed { subnet, _ -> failure(subnet) == null }
        .maxOfOrNull { visits -> halfWidth(visits.map { median(it) }) } ?: 0.0

    /** The timings of each subnet by visit, corrected. */
    private fun trusted(): List<List<List<Double>>> {
        val slowness = slowness()
        return visits.map { byRound ->
            val corrected = byRound.map { (round, ms) -> ms.map { it / slowness.getValue(round) } }
            if (corrected.isEmpty()) return@map corrected
            val usual = median(corrected.map { median(it) })
            val deviation = median(corrected.map { abs(median(it) - usual) })
            corrected.filter { abs(median(it) - usual) <= max(CLOSE * usual, FAR * deviation) }
        }
    }

    /** By round, how many times slower than usual the device was; 1 where it was as usual. */
    private fun slowness(): Map<Int, Double> {
        val usual = visits.map { byRound -> median(byRound.values.map { median(it) }) }
        return visits.flatMap { it.keys }.toSet().associateWith { round ->
            val ratios = visits.mapIndexedNotNull { subnet, byRound ->
                byRound[round]?.let { median(it) / usual[subnet] }
            }
            val slower = median(ratios)
            if (ratios.size < FEW || abs(slower - 1) <= STEADY) 1.0 else slower
        }
    }
}

/** 0 where there are none. */
internal fun median(values: List<Double>): Double {
    if (values.isEmpty()) return 0.0
    val ranked = values.sorted()
    val half = ranked.size / 2
    return if (ranked.size % 2 == 1) ranked[half] else (ranked[half - 1] + ranked[half]) / 2
}

/** Of values in ascending order, by nearest rank. */
private fun List<Double>.percentile(percent: Int): Double = this[max(0, ceil(size * percent / 100.0).toInt() - 1)]

/** As `half_width` in toolkit/profiling/measuring.py, which gives the source. */
private fun halfWidth(samples: List<Double>): Double {
    var outside = 0.0
    var share = 0.5.pow(samples.size) // of the binomial distribution, for so many below the median as are left out
    var leftOut = -1
    while (leftOut + 1 < samples.size / 2 && outside + share <= OUTSIDE) {
        outside += share
        leftOut++
        share *= (samples.size - leftOut) / (leftOut + 1.0)
    }
    if (leftOut < 0) return Double.POSITIVE_INFINITY
    val ranked = samples.sorted()
    return (ranked[ranked.lastIndex - leftOut] - ranked[leftOut]) / 2 / median(ranked)
}
