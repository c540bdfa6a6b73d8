package io.adaptivenet.search

import java.util.Random
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.pow
import kotlin.math.sqrt

private const val USUAL = 0.05 // what an alternative loses before anything is known of it,
private const val USUALLY = 0.5 // and the standard deviation of that
private const val SPEAKING = 25.0 // results, of which any number speaks for one answer and against another
private const val LEAST_LIKELY = 0.03 // beside the likeliest; what is less likely is left out
private val MISFITS = listOf(0.05, 0.15, 0.4) // a subnet's own deviation from the sum, as a share of it,
private const val LEAST_MISFIT = 0.005 // and a little more
private const val RUINED = 1e-6 // of an agreement, on any scale

/** What is believed of a loss: its mean and its variance. */
internal class Belief(val mean: Double, val variance: Double) {
    fun draw(random: Random): Double = mean + sqrt(variance) * random.nextGaussian()

    /** With another, independent observation of the same. */
    fun with(other: Belief): Belief {
        val share = other.variance / (variance + other.variance)
        return Belief(mean * share + other.mean * (1 - share), variance * share)
    }
}

/**
 * On which scale losses add up: what is lost of an agreement `q` is `(1 - q^bend) / bend` (Box and Cox 1964), which is
 * `1 - q` for a bend of 1, and near `-log q` for a small one.
 */
internal class Scale(private val bend: Double) {
    fun loss(agreement: Double): Double = (1 - agreement.pow(bend)) / bend

    fun agreement(loss: Double): Double = (1 - bend * loss).coerceIn(RUINED, 1.0).pow(1 / bend)

    /** What a subnet loses, as its pictures tell it. */
    fun loss(observed: Observed): Belief {
        val slope = slope(observed)
        return Belief(loss(observed.agreement), slope * slope * observed.variance)
    }

    /** How steep the scale is there. */
    fun slope(observed: Observed): Double = observed.agreement.pow(bend - 1)

    companion object {
        val ALL = listOf(0.1, 0.5, 1.0, 2.0).map { Scale(it) }
    }
}

/** Several answers to what is not known of a graph's subnets, each as likely as it makes what was seen plausible. */
internal class Models(alternatives: List<String>, val results: Map<List<String>, Observed>) {
    private val models: List<Model>
    private val weights: List<Double>

    init {
        val all = Scale.ALL.flatMap { scale -> MISFITS.map { Model(alternatives, results, scale, it) } }
        val most = all.maxOf { it.evidence }
        // What is wrong with a model is wrong of many results at once: they do not speak each for itself.
        val tempered = results.size.let { SPEAKING / (SPEAKING + it) }
        val likely = all.map { exp(tempered * (it.evidence - most)) }
        val kept = all.indices.filter { likely[it] > LEAST_LIKELY }
        models = kept.map { all[it] }
        weights = kept.map { likely[it] / kept.sumOf { each -> likely[each] } }
    }

    /** One of them. */
    fun one(random: Random): Model {
        var rest = random.nextDouble()
        return models.indices.firstOrNull { at ->
            rest -= weights[at]
            rest < 0
        }?.let { models[it] } ?: models.last()
    }

    /** The likeliest one. */
    val likeliest: Model get() = models[weights.indices.maxByOrNull { weights[it] } ?: 0]

    /** The agreement that is expected of a subnet. */
    fun expected(subnet: List<String>): Double = models.indices.sumOf { at ->
        val model = models[at]
        weights[at] * model.scale.agreement(model.of(subnet, model.expected(), results[subnet]).mean)
    }
}

/**
 * What the alternatives of a graph lose, learned from subnets: losses are taken to add up, and a subnet to deviate from
 * the sum by a share of it. That is Bayesian linear regression (Bishop, Pattern Recognition and Machine Learning,
 * section 3.3). It is the small counterpart of `toolkit/search/quality_model.py`, without pairs and the alternatives'
 * distillation losses.
 */
internal class Model(
    alternatives: List<String>,
    results: Map<List<String>, Observed>,
    val scale: Scale,
    private val share: Double,
) {
    private val columns = alternatives.withIndex().associate { (at, name) -> name to at }
    private val size = alternatives.size
    private val lower: Array<DoubleArray> // the Cholesky factor of the precision
    private val mean: DoubleArray

    /** The logarithm of how plausible it makes what was seen, up to a constant. */
    val evidence: Double

    init {
        val precision = Array(size) { row -> DoubleArray(size).also { it[row] = 1 / (USUALLY * USUALLY) } }
        val weighted = DoubleArray(size) { USUAL / (USUALLY * USUALLY) }
        for ((subnet, seen) in results) {
            val loss = scale.loss(seen)
            val weight = 1 / (loss.variance + misfit(loss.mean))
            val own = subnet.mapNotNull { columns[it] }
            for (row in own) {
                weighted[row] += weight * loss.mean
                for (column in own) precision[row][column] += weight
            }
        }
        lower = factor(precision)
        mean = backward(forward(weighted))
        // Of all that was seen, Bishop's formula 3.86; the slopes make scales comparable.
        var plausible = mean.sumOf { -(it - USUAL) * (it - USUAL) / (USUALLY * USUALLY) }
        for ((subnet, seen) in results) {
            val loss = scale.loss(seen)
            val variance = loss.variance + misfit(loss.mean)
            val off = loss.mean - subnet.sumOf { of(it, mean) }
            plausible += 2 * ln(scale.slope(seen)) - ln(variance) - off * off / variance
        }
        evidence = (plausible / 2) - (0 until size).sumOf { ln(lower[it][it] * USUALLY) }
    }

    /** What each alternative loses, as it is expected. */
    fun expected(): DoubleArray = mean

    /** What each alternative may lose. */
    fun draw(random: Random): DoubleArray {
        val deviation = backward(DoubleArray(size) { random.nextGaussian() })
        return DoubleArray(size) { mean[it] + deviation[it] }
    }

    /** What [block] loses by [losses], which [expected] or [draw] gave; originals lose nothing. */
    fun of(block: String, losses: DoubleArray): Double = columns[block]?.let { losses[it] } ?: 0.0

    /** What a subnet loses by [losses]; with [seen], also by what it has shown itself. */
    fun of(subnet: List<String>, losses: DoubleArray, seen: Observed?): Belief {
        val sum = subnet.sumOf { of(it, losses) }
        val belief = Belief(sum, misfit(sum))
        return if (seen == null) belief else belief.with(scale.loss(seen))
    }

    private fun misfit(loss: Double): Double = (share * loss).let { it * it } + LEAST_MISFIT * LEAST_MISFIT

    private fun factor(matrix: Array<DoubleArray>): Array<DoubleArray> {
        val found = Array(size) { DoubleArray(size) }
        for (row in 0 until size) {
            for (column in 0..row) {
                var rest = matrix[row][column]
                for (at in 0 until column) rest -= found[row][at] * found[column][at]
                found[row][column] = if (row == column) sqrt(rest) else rest / found[column][column]
            }
        }
        return found
    }

    private fun forward(right: DoubleArray): DoubleArray {
        val found = right.copyOf()
        for (row in 0 until size) {
            for (at in 0 until row) found[row] -= lower[row][at] * found[at]
            found[row] /= lower[row][row]
        }
        return found
    }

    private fun backward(right: DoubleArray): DoubleArray {
        val found = right.copyOf()
        for (row in size - 1 downTo 0) {
            for (at in row + 1 until size) found[row] -= lower[at][row] * found[at]
            found[row] /= lower[row][row]
        }
        return found
    }
}
