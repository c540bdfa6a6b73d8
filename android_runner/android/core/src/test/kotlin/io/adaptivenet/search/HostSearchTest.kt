package io.adaptivenet.search

import io.adaptivenet.double
import io.adaptivenet.get
import io.adaptivenet.graph.Block
import io.adaptivenet.graph.BlockGraph
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.TensorType
import io.adaptivenet.int
import io.adaptivenet.items
import io.adaptivenet.json.Json
import io.adaptivenet.json.parseJson
import io.adaptivenet.string
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import java.io.File

/** The search of an app beside that of the host, with equally many evaluations: tests/app_search.py has made both. */
class HostSearchTest {
    private class Case(document: Json) {
        val name = document["name"].string
        val targets = document["targets"].items.map { it.double }
        val pictures = document["pictures"].int
        val evaluations = document["evaluations"].int
        val host = document["host"].items.map { it.double }
        private val right = (document["right"] as Json.Fields).values.mapValues { it.value.string }
        val cost = (document["cost"] as Json.Fields).values.mapValues { it.value.double }
        val graph = BlockGraph(
            List(document["cuts"].int) { TensorType(listOf(1), DType.FLOAT32) },
            document["blocks"].items.map {
                Block(it["name"].string, it["start"].int, it["end"].int, it["original"] == Json.Flag(true))
            },
            emptyList(),
        )

        fun see(subnet: List<String>, range: IntRange): DoubleArray {
            val scores = right.getValue(subnet.joinToString(" ")).substring(range)
            return DoubleArray(scores.length) { if (scores[it] == '1') 1.0 else 0.0 }
        }

        fun search(see: (List<String>, IntRange) -> DoubleArray?) =
            Search(graph, cost, targets, emptyList(), pictures, evaluations, evaluate = see)
    }

    private val cases = File(System.getProperty("adaptivenet.packs"), "search/cases.json")
        .let { file -> parseJson(file.readBytes())["cases"].items.map { Case(it) } }

    /** By how much a search is better than the host's, in the mean over the targets. */
    private val better by lazy { cases.associate { it.name to compare(it) } }

    @TestFactory
    fun onAPackItIsWithinAPointOfTheHosts(): List<DynamicTest> = better.filterKeys { it.startsWith("pack") }
        .map { (name, more) -> dynamicTest(name) { assertTrue(more >= -0.01, "$more") } }

    @Test
    fun ofATrainedNetworkItIsWithinAPointOfTheHosts(): Unit = requireWithinAPoint("trained network")

    @Test
    fun onRandomSpacesItIsWithinAPointOfTheHosts(): Unit = requireWithinAPoint("random")

    private fun requireWithinAPoint(name: String) {
        val found = better.filterKeys { it.startsWith(name) }.values
        assertTrue(found.average() >= -0.01, "$found")
        assertTrue(found.min() >= -0.03, "$found") // the mean is what is promised
    }

    @Test
    fun aGraphWithoutAlternativesIsSearchedAtOnce() {
        val cuts = List(2) { TensorType(listOf(1), DType.FLOAT32) }
        val only = BlockGraph(cuts, listOf(Block("b0", 0, 1, true)), emptyList())
        val search = Search(only, mapOf("b0" to 1.0), listOf(1.0), emptyList(), 64, 128) { _, range ->
            DoubleArray(range.count()) { 1.0 }
        }
        assertTrue(search.run())
        assertEquals(listOf(listOf("b0")), search.best)
        assertEquals(64, search.done)
    }

    @Test
    fun whatEndsTheEvaluationEndsTheSearch() {
        val case = cases.first()
        var left = 10
        val search = case.search { subnet, range -> if (left-- > 0) case.see(subnet, range) else null }
        assertFalse(search.run())
        assertEquals(10, search.results.size)
    }

    private fun compare(case: Case): Double {
        val search = case.search(case::see)
        assertTrue(search.run())
        assertTrue(search.done <= case.evaluations)
        val found = case.targets.map { target ->
            search.best.filter { each -> isWithin(each.sumOf { case.cost.getValue(it) }, target) }
                .maxOfOrNull { case.see(it, 0 until case.pictures).average() } ?: 0.0
        }
        for (subnet in search.best) assertEquals(case.pictures, search.results.getValue(subnet).size)
        return found.average() - case.host.average()
    }
}
