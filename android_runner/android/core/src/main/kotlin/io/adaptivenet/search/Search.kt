package io.adaptivenet.search

import io.adaptivenet.graph.BlockGraph
import java.util.Random

private const val HALVINGS = 4 // a subnet's first heat is on a 16th of the pictures,
private const val FEWEST = 32 // or a larger part of few
private const val DRAWS = 24 // of what alternatives may lose
private const val TOLERANCE = 0.0005 // of agreement, by which a better choice is not looked for

/**
 * Looks for the subnets that agree most with the original within each of [targets] (milliseconds, by the [cost] of
 * blocks). It is the small counterpart of `toolkit/search/surrogate.py`, and begins as that does: with the original,
 * the [first] ones, and the original with each alternative. Then a model of what alternatives lose is fitted, the best path
 * of each target is found in draws of that, and those that are the best in some draw are evaluated on more pictures.
 * Not before it has seen all is a subnet chosen: enough evaluations are kept for that.
 *
 * [evaluate] is given a subnet and which pictures it shall see next, and returns what it scores on each, 0 to 1; null
 * ends the search.
 */
internal class Search(
    private val graph: BlockGraph,
    private val cost: Map<String, Double>,
    targets: List<Double>,
    first: List<List<String>>,
    private val pictures: Int,
    private val evaluations: Int,
    seed: Long = 0,
    private val evaluate: (List<String>, IntRange) -> DoubleArray?,
) {
    private val targets = targets.sorted()
    private val random = Random(seed)
    private val heats = (HALVINGS downTo 0).map { 1 shl it }.filter { it == 1 || pictures >= FEWEST * it }
        .map { (pictures + it - 1) / it }
    private val seen = LinkedHashMap<List<String>, DoubleArray>()
    private val alternatives = graph.alternatives.map { it.name }
    private val first = (listOf(graph.oracle) + first + alternatives.map { withOne(it) }).distinct()

    /** How often a subnet has met a picture. */
    var done = 0
        private set

    /** All that were evaluated. */
    val results: Map<List<String>, DoubleArray> get() = seen

    /** Of those that have seen all pictures, the best within each target; the same may be the best of several. */
    val best: List<List<String>>
        get() = targets.mapNotNull { target ->
            seen.keys.filter { isDone(it) && fits(it, target) }
                .minWithOrNull(compareBy<List<String>> { -seen.getValue(it).average() }.thenBy { costOf(it) })
        }.distinct()

    /** False where [evaluate] has ended it. */
    fun run(): Boolean {
        for (subnet in first) {
            val heat = if (subnet == graph.oracle) pictures else heats.first() // the others are compared with it
            if (!isAffordable(subnet, heat)) break
            if (!see(subnet, heat)) return false
        }
        while (true) {
            val trials = trials().ifEmpty { return finish() }
            var isSpent = true
            for (subnet in trials) {
                val heat = heats.firstOrNull { it > picturesOf(subnet) } ?: continue
                if (done + heat - picturesOf(subnet) + toFinish() > evaluations) continue
                if (!see(subnet, heat)) return false
                isSpent = false
            }
            if (isSpent) return finish()
        }
    }

    /** Shows all pictures to the best of each target, for as long as other ones are the best then. */
    private fun finish(): Boolean {
        while (true) {
            val open = leaders().filter { !isDone(it) && isAffordable(it, pictures) }
            if (open.isEmpty()) return true
            for (subnet in open) {
                if (isAffordable(subnet, pictures) && !see(subnet, pictures)) return false
            }
        }
    }

    private fun toFinish(): Int = leaders().sumOf { pictures - picturesOf(it) }

    private fun isAffordable(subnet: List<String>, heat: Int) = done + heat - picturesOf(subnet) <= evaluations

    private fun see(subnet: List<String>, until: Int): Boolean {
        val before = picturesOf(subnet)
        if (until <= before) return true
        val found = evaluate(subnet, before until until) ?: return false
        seen[subnet] = (seen[subnet] ?: DoubleArray(0)) + found
        done += until - before
        return true
    }

    private fun picturesOf(subnet: List<String>): Int = seen[subnet]?.size ?: 0

    private fun isDone(subnet: List<String>): Boolean = picturesOf(subnet) == pictures

    private fun costOf(subnet: List<String>): Double = subnet.sumOf { cost.getValue(it) }

    private fun fits(subnet: List<String>, target: Double): Boolean = isWithin(costOf(subnet), target)

    /** The original with one alternative in place of what that replaces. */
    private fun withOne(name: String): List<String> {
        val block = graph[name]
        return graph.oracle.take(block.start) + name + graph.oracle.drop(block.end)
    }

    private fun models() = Models(alternatives, Observations(seen, pictures).all)

    /** The agreement that is expected; what is known of all pictures is known. */
    private fun expected(models: Models, subnet: List<String>): Double =
        if (isDone(subnet)) seen.getValue(subnet).average() else models.expected(subnet)

    /** Of those that were evaluated, the one that is expected to be the best within each target. */
    private fun leaders(): List<List<String>> {
        val models = models()
        val expected = seen.keys.associateWith { expected(models, it) }
        return targets.mapNotNull { target ->
            seen.keys.filter { fits(it, target) }.maxByOrNull { expected.getValue(it) }
        }.distinct()
    }

    /**
     * What to show more pictures, one for each target at most: what that says is learned before the next is chosen. None
     * where no other choice would be better.
     */
    private fun trials(): List<List<String>> {
        val models = models()
        val drawn = List(DRAWS) { models.one(random).let { model -> model to model.draw(random) } }
        val likeliest = models.likeliest
        val proposed = (drawn + (likeliest to likeliest.expected())).flatMap { (model, losses) ->
            bestPaths(graph, cost, { model.of(it, losses) }, targets).filterNotNull()
        }
        val contenders = (seen.keys + proposed).toList()
        val costs = contenders.map { costOf(it) }
        val expected = contenders.map { expected(models, it) }
        val agreements = drawn.map { (model, losses) ->
            contenders.mapIndexed { at, subnet ->
                if (isDone(subnet)) {
                    expected[at]
                } else {
                    model.scale.agreement(model.of(subnet, losses, models.results[subnet]).draw(random))
                }
            }
        }
        return targets.mapNotNull { target ->
            val fitting = contenders.indices.filter { isWithin(costs[it], target) }
            promising(fitting, contenders, expected, agreements)
        }.distinct()
    }

    /** For one target: what is the best in most draws, where that promises more than what is the best so far. */
    private fun promising(
        fitting: List<Int>,
        contenders: List<List<String>>,
        expected: List<Double>,
        agreements: List<List<Double>>,
    ): List<String>? {
        val leader = fitting.filter { contenders[it] in seen }.maxByOrNull { expected[it] }
            ?: return fitting.firstOrNull()?.let { contenders[it] }
        val winners = agreements.map { drawn -> fitting.maxByOrNull { drawn[it] } ?: leader }
        val regret = winners.indices.sumOf { agreements[it][winners[it]] - agreements[it][leader] } / DRAWS
        if (regret < TOLERANCE) return contenders[leader].takeIf { !isDone(it) }
        val wins = winners.filter { !isDone(contenders[it]) }.groupingBy { it }.eachCount()
        return wins.maxByOrNull { it.value }?.let { contenders[it.key] }
    }
}
