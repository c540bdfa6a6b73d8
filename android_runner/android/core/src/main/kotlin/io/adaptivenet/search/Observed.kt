package io.adaptivenet.search

import kotlin.math.max

private const val TELLING = 4 // subnets that have seen all pictures, before it is said how alike subnets find them
private const val LEAST_LEFT = 0.05 // of the variance, however alike they do

/** What a subnet's first pictures say of its agreement on all of them, and how sure that is. */
internal class Observed(val agreement: Double, val variance: Double)

/**
 * What is hard for one subnet is hard for others: how those that have seen all of [pictures] did on the first ones says
 * how hard these are, and the others are corrected for it. [seen] has the scores of each subnet by picture, 0 to 1.
 * It is a regression estimator (Cochran, Sampling Techniques, chapter 7).
 */
internal class Observations(seen: Map<List<String>, DoubleArray>, private val pictures: Int) {
    private val telling = seen.values.filter { it.size == pictures && it.average() in LEAST_TELLING..MOST_TELLING }
    private val ease = DoubleArray(pictures) { at -> telling.sumOf { it[at] } / max(1, telling.size) }
    private val left = seen.values.map { it.size }.distinct().filter { it < pictures }.associateWith { left(it) }

    /** By subnet. */
    val all: Map<List<String>, Observed> = seen.mapValues { observed(it.value) }

    private fun observed(scores: DoubleArray): Observed {
        val count = scores.size
        val found = if (count < pictures) scores.average() + shift(scores.average(), count, ease) else scores.average()
        // Never 0 or 1: few pictures cannot tell that.
        val agreement = ((found * count + 0.5) / (count + 1)).coerceIn(0.5 / (count + 1), (count + 0.5) / (count + 1))
        return Observed(agreement, agreement * (1 - agreement) * unseen(count) * (left[count] ?: 1.0) + EXACT)
    }

    /** The variance of the mean of so many pictures, of those that are there, if they had one. */
    private fun unseen(count: Int): Double = (1.0 / count) * (1 - count.toDouble() / pictures)

    /** By how much the first [count] pictures are harder than all, for a subnet of that agreement. */
    private fun shift(agreement: Double, count: Int, ease: DoubleArray): Double {
        val usual = ease.average()
        val spread = usual * (1 - usual)
        if (telling.isEmpty() || spread == 0.0) return 0.0
        val harder = usual - ease.take(count).average()
        return harder * agreement * (1 - agreement) / spread
    }

    /** The share of the variance that the correction leaves, as those tell that have seen all: each by the others. */
    private fun left(count: Int): Double {
        if (telling.size < TELLING) return 1.0
        var squares = 0.0
        var expected = 0.0
        for (scores in telling) {
            val others = DoubleArray(pictures) { (ease[it] * telling.size - scores[it]) / (telling.size - 1) }
            val first = scores.take(count).average()
            val off = first + shift(first, count, others) - scores.average()
            squares += off * off
            expected += scores.average() * (1 - scores.average()) * unseen(count)
        }
        // Cautiously, as if one more had been no better than without: few say this, and of few pictures.
        return ((squares + expected / telling.size) / (expected + expected / telling.size)).coerceIn(LEAST_LEFT, 1.0)
    }

    private companion object {
        const val LEAST_TELLING = 0.02 // one that agrees never or always does not tell which pictures are hard
        const val MOST_TELLING = 0.995
        const val EXACT = 1e-8
    }
}
