package io.adaptivenet.search

import io.adaptivenet.graph.Block
import io.adaptivenet.graph.BlockGraph
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.TensorType
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test
import java.util.Random

/** The best path within a budget, against all paths. */
class BestPathsTest {
    private fun graph(random: Random, length: Int): BlockGraph {
        val originals = List(length) { Block("b$it", it, it + 1, true) }
        val others = List(3 * length) { at ->
            val start = random.nextInt(length)
            Block("x$at", start, minOf(length, start + 1 + random.nextInt(3)))
        }
        return BlockGraph(List(length + 1) { TensorType(listOf(1), DType.FLOAT32) }, originals + others, emptyList())
    }

    private fun paths(graph: BlockGraph, at: Int = 0): List<List<String>> = if (at == graph.end) {
        listOf(emptyList())
    } else {
        graph.leaving[at].flatMap { block -> paths(graph, block.end).map { listOf(block.name) + it } }
    }

    @Test
    fun areThoseOfAllPaths() {
        val random = Random(0)
        repeat(20) {
            val graph = graph(random, 5)
            val all = paths(graph)
            val names = graph.leaving.flatten().map { it.name }
            val cost = names.associateWith { 1 + random.nextInt(9) / 10.0 }
            val loss = names.associateWith { random.nextDouble() }
            fun sum(of: Map<String, Double>, path: List<String>) = path.sumOf { of.getValue(it) }
            val costs = all.map { sum(cost, it) }.sorted()
            val budgets = listOf(costs.first() - 0.1, costs.first(), costs[costs.size / 3], costs.last())
            val found = bestPaths(graph, cost, { loss.getValue(it) }, budgets)
            assertNull(found[0])
            for ((budget, path) in budgets.zip(found).drop(1)) {
                val best = all.filter { isWithin(sum(cost, it), budget) }.minOf { sum(loss, it) }
                assertEquals(best, sum(loss, checkNotNull(path)), 1e-12)
            }
        }
    }
}
