package io.adaptivenet.calibration

import io.adaptivenet.CalibrationEnd
import io.adaptivenet.DataException
import io.adaptivenet.DeviceException
import io.adaptivenet.Pictures
import io.adaptivenet.ProfileException
import io.adaptivenet.graph.BlockGraph
import io.adaptivenet.json.Json
import io.adaptivenet.json.number
import io.adaptivenet.json.text
import io.adaptivenet.pack.Pack
import io.adaptivenet.profile.pointOf
import io.adaptivenet.search.Search
import io.adaptivenet.search.bestPaths
import io.adaptivenet.serving.Assembler
import kotlin.math.min

private const val TARGETS = 8 // latencies from the fastest subnet to the whole network that are searched
private const val VERIFIED = 3 // one picture in so many is kept from the search, to verify on
private const val FEWEST = 2 * VERIFIED // pictures

/** What is searched by a profile: what its blocks take, and what is known to be good. */
internal class SearchSpace(pack: Pack, profile: Json.Fields) {
    private val graph: BlockGraph = pack.graph

    /** What each block of the pack takes in a subnet, in milliseconds. */
    val cost: Map<String, Double> = costsOf(profile, graph)
    private val fastest =
        bestPaths(graph, cost, { cost.getValue(it) }, listOf(Double.MAX_VALUE)).single() ?: graph.oracle

    /** What budgets are shares of. */
    val reference: List<String> = referenceOf(profile)?.takeIf { each -> each.all { it in graph } } ?: graph.oracle
    private val networks = graph.alternatives.filter { it.isNetwork }.map { listOf(it.name) }
    private val front = (profile["front"] as? Json.Items)?.values.orEmpty().map { pointOf(it).point.subnet }

    /** What the search begins with, beside the original. */
    val first: List<List<String>> = (listOf(fastest, reference) + networks + front).distinct()

    /** In milliseconds. */
    val targets: List<Double> = run {
        val (low, high) = costOf(fastest) to maxOf(costOf(fastest), costOf(reference))
        List(TARGETS) { low + (high - low) * it / (TARGETS - 1) }.distinct()
    }

    fun costOf(subnet: List<String>): Double = subnet.sumOf { cost.getValue(it) }
}

private fun costsOf(profile: Json.Fields, graph: BlockGraph): Map<String, Double> {
    val known = (profile["blocks"] as? Json.Items)?.values.orEmpty().mapNotNull { it as? Json.Fields }
        .associate { it["name"].text to it["in_subnet_ms"].number }
    return graph.leaving.flatten().associate { block ->
        val takes = known[block.name]
        block.name to (takes ?: throw ProfileException("the profile does not say what block '${block.name}' takes"))
    }
}

/** What came of a search. */
internal class Found(
    val metric: String,
    /** How many pictures were searched on, and how many others the qualities are from. */
    val searched: Int,
    val verified: Int,
    /** Of the pictures. */
    val digest: String,
    /** How often a subnet has met a picture, and how many subnets have. */
    val evaluations: Int,
    val subnets: Int,
    /** By subnet, of those that have seen all pictures: their agreement on those that were not searched on. */
    val agreement: Map<List<String>, Double>,
    val failures: Map<List<String>, String>,
)

/**
 * A search by a [profile] that was calibrated, on the pictures of an app, and the measuring of what it finds. For one
 * thread.
 */
internal class Searching(
    private val assembler: Assembler,
    private val loading: Loading,
    private val target: CalibrationTarget,
    private val profile: Json.Fields,
    private val course: Course,
) {
    private val graph = assembler.pack.graph
    private var search: Search? = null

    /** What has ended it. */
    var end = CalibrationEnd.DONE
        private set

    /** The profile with the front that was found; null where something has ended it. */
    fun run(pictures: Pictures, evaluations: Int): Json.Fields? {
        val fromNs = course.clock.nanoTime()
        val space = SearchSpace(assembler.pack, profile)
        val found = find(space, pictures, evaluations) ?: return null
        val seconds = course.secondsSince(fromNs)
        val subnets = found.agreement.keys.toList()
        Journal(target.finalists, target.header(subnets), subnets.size).use { journal ->
            end = Measuring(assembler, loading, subnets, course, journal).run()
            if (end != CalibrationEnd.DONE) return null
            val measured = journal.timings.measured()
            val known = subnets.indices.mapNotNull { at -> measured[at]?.let { subnets[at] to it } }.toMap()
            if (known.isEmpty()) throw DeviceException("nothing that was found could be measured on this device")
            val took = mapOf("search" to seconds, "time finalists" to journal.seconds)
            val uncertainty = journal.timings.uncertainty()
            return searchedProfile(profile, graph.oracle, space, found, known, took, uncertainty)
        }
    }

    private fun find(space: SearchSpace, pictures: Pictures, evaluations: Int): Found? {
        val metric = agreementOf(assembler.pack)
        if (pictures.size < FEWEST) {
            throw DataException(
                "${pictures.size} pictures are too few to search and to verify on; give $FEWEST or more",
            )
        }
        val searched = pictures.size - pictures.size / VERIFIED
        val share = { min(1.0, (search?.done ?: 0).toDouble() / evaluations) }
        Evaluating(assembler, loading, metric, pictures, course, share).use { evaluating ->
            val digest = evaluating.begin(target.evaluations) { target.header(listOf(listOf(metric, it))) }
            val search = Search(
                graph,
                space.cost,
                space.targets,
                space.first,
                searched,
                evaluations,
                evaluate = evaluating::scores,
            ).also { search = it }
            if (digest == null || !search.run()) return ended(evaluating)
            val agreement = LinkedHashMap<List<String>, Double>()
            for (subnet in (search.best + listOf(graph.oracle, space.reference)).distinct()) {
                if (!see(evaluating, subnet, search.results[subnet]?.size ?: 0, searched)) return ended(evaluating)
                val others = evaluating.scores(subnet, searched until pictures.size) ?: return ended(evaluating)
                if (subnet !in evaluating.failures) agreement[subnet] = others.average()
            }
            return Found(
                metric,
                searched,
                pictures.size - searched,
                digest,
                search.done,
                search.results.size,
                agreement,
                evaluating.failures,
            )
        }
    }

    /** Shows a subnet the pictures that were searched on, where the search has not. */
    private fun see(evaluating: Evaluating, subnet: List<String>, from: Int, until: Int): Boolean =
        from == until || evaluating.scores(subnet, from until until) != null

    private fun ended(evaluating: Evaluating): Found? {
        end = evaluating.end ?: CalibrationEnd.CANCELLED
        return null
    }

    /** There is nothing to go on with any more. */
    fun delete() {
        target.finalists.delete()
        target.evaluations.delete()
    }
}
