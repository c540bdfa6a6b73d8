package io.adaptivenet.search

import io.adaptivenet.graph.BlockGraph

private const val WAYS = 400 // that are kept at a cut
private const val EDGE = 1e-9 // sums of decimal fractions differ in the last binary digits

/** Whether a cost is within a budget, to nine digits. */
internal fun isWithin(cost: Double, budget: Double): Boolean = cost <= budget * (1 + EDGE)

/** A way from a cut to the last one. */
private class Way(val cost: Double, val loss: Double, val block: String, val next: Way?) {
    val names: List<String>
        get() = generateSequence(this) { it.next }.map { it.block }.filter { it.isNotEmpty() }.toList()
}

/**
 * For each of [budgets], the path with the smallest sum of [loss] of those whose sum of [cost] is within it; null where
 * there is none. Exact while no cut has more than some hundred ways onward that are each better than all cheaper ones;
 * of more, it keeps as many, spread over their costs, the cheapest and the best always among them.
 */
internal fun bestPaths(
    graph: BlockGraph,
    cost: Map<String, Double>,
    loss: (String) -> Double,
    budgets: List<Double>,
): List<List<String>?> {
    val ways = ArrayList<List<Way>>(List(graph.end + 1) { emptyList() })
    ways[graph.end] = listOf(Way(0.0, 0.0, "", null))
    for (at in graph.end - 1 downTo 0) {
        val onward = graph.leaving[at].flatMap { block ->
            val (costs, loses) = cost.getValue(block.name) to loss(block.name)
            ways[block.end].map { Way(costs + it.cost, loses + it.loss, block.name, it) }
        }
        ways[at] = thinned(notBeaten(onward))
    }
    return budgets.map { budget -> ways[0].lastOrNull { isWithin(it.cost, budget) }?.names }
}

/** Cheapest first, each better than all cheaper ones. */
private fun notBeaten(ways: List<Way>): List<Way> {
    val kept = ArrayList<Way>()
    for (way in ways.sortedWith(compareBy<Way> { it.cost }.thenBy { it.loss })) {
        if (kept.isEmpty() || way.loss < kept.last().loss) kept += way
    }
    return kept
}

private fun thinned(ways: List<Way>): List<Way> =
    if (ways.size <= WAYS) ways else List(WAYS) { ways[it * (ways.size - 1) / (WAYS - 1)] }
