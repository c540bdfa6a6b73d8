package io.adaptivenet.calibration

import io.adaptivenet.CalibrationEnd
import io.adaptivenet.DataException
import io.adaptivenet.PackException
import io.adaptivenet.Pictures
import io.adaptivenet.TensorBuffer
import io.adaptivenet.engine.Feature
import io.adaptivenet.engine.Program
import io.adaptivenet.engine.whole
import io.adaptivenet.json.Json
import io.adaptivenet.json.fieldsOf
import io.adaptivenet.json.number
import io.adaptivenet.json.text
import io.adaptivenet.pack.Pack
import io.adaptivenet.pack.hexadecimal
import io.adaptivenet.serving.Assembler
import io.adaptivenet.serving.Chain
import java.io.Closeable
import java.io.File
import java.security.MessageDigest

private const val MOST_OUTPUT = 128L shl 20 // bytes of what the original says of all pictures

/** The metric of a pack that needs no labels: how far a subnet agrees with the original. Throws [PackException]. */
internal fun agreementOf(pack: Pack): String {
    val fitting = pack.metrics.filterValues { metric ->
        val isShare = !metric.hasScore && metric.sums.size == 2 && metric.sums[1] == "count"
        isShare && metric.operands.toSet() == setOf("output", "oracle")
    }.keys
    return fitting.firstOrNull { it == "agreement" } ?: fitting.minOrNull() ?: throw PackException(
        "pack '${pack.name}' has no metric that compares a subnet with the original network alone, only " +
            pack.metrics.keys.sorted().joinToString().ifEmpty { "none" } + ": export it with agreement or fidelity",
    )
}

/**
 * Evaluates subnets on [pictures] by [metric], one subnet loaded at a time. What it has found is kept in a journal. For
 * one thread.
 */
internal class Evaluating(
    private val assembler: Assembler,
    private val loading: Loading,
    private val metric: String,
    private val pictures: Pictures,
    private val course: Course,
    private val share: () -> Double,
) : Closeable {
    private val engine = assembler.engine
    private val oracle = assembler.pack.graph.oracle
    private val input = TensorBuffer(assembler.pack.graph.cuts.first())
    private val output = TensorBuffer(assembler.pack.graph.cuts.last())
    private val sums = TensorBuffer(assembler.sumsOf(metric))
    private val operands = assembler.pack.metrics.getValue(metric).operands
    private val program: Program = assembler.loadMetric(metric)
    private val original = ArrayList<TensorBuffer>() // what it says of each picture
    private val known = HashMap<List<String>, DoubleArray>() // from the journal
    private var lines: Lines? = null

    /** Why each subnet that does not run does not. It agrees on nothing. */
    val failures = HashMap<List<String>, String>()

    /** What has ended it. */
    var end: CalibrationEnd? = null
        private set

    init {
        val bytes = pictures.size.toLong() * output.type.bytes
        if (pictures.size < 1 || bytes > MOST_OUTPUT) {
            program.close()
            val most = MOST_OUTPUT / output.type.bytes
            throw DataException("the outputs of ${pictures.size} pictures take $bytes bytes; give 1 to $most pictures")
        }
    }

    /**
     * Runs the original on all pictures, and goes on with the journal in [file], where that is of the same [header] and
     * pictures. Their digest; null where something has ended it.
     */
    fun begin(file: File, header: (String) -> Json): String? {
        val digest = MessageDigest.getInstance("SHA-256")
        val chain = loading.load(oracle)
        for (at in 0 until pictures.size) {
            if (isOver()) return null
            read(at)
            digest.update(input.bytes.whole())
            original += TensorBuffer(output.type).also { run(chain, it) }
        }
        val found = hexadecimal(digest.digest())
        lines = Lines.open(file, header(found), ::take)
        return found
    }

    private fun isOver(): Boolean {
        end = end ?: course.end()
        return end != null
    }

    private fun read(at: Int) {
        pictures.read(at, input)
    }

    private fun run(chain: Chain, to: TensorBuffer) {
        engine.wrap(input).use { from -> engine.wrap(to).use { chain.run(from, it) } }
    }

    /** What a subnet scores on these pictures, 0 to 1 each; null where something has ended it. May block. */
    fun scores(subnet: List<String>, range: IntRange): DoubleArray? {
        known[subnet]?.let { if (it.size > range.last) return it.copyOfRange(range.first, range.last + 1) }
        end = end ?: course.cool(share()) { loading.close() }
        if (isOver()) return null
        val found = DoubleArray(range.last + 1 - range.first)
        val failure = failures[subnet] ?: failureOf {
            val chain = if (subnet == oracle) null else loading.load(subnet)
            for (at in range) {
                if (isOver()) break
                if (chain != null) {
                    read(at)
                    run(chain, output)
                }
                found[at - range.first] = score(if (chain == null) original[at] else output, original[at])
            }
        }
        if (end != null) return null
        if (failure != null) {
            failures[subnet] = failure
            found.fill(0.0)
        }
        note(subnet, range.first, found, failure)
        course.tell(share())
        return found
    }

    private fun score(given: TensorBuffer, right: TensorBuffer): Double {
        val features = ArrayList<Feature>()
        try {
            operands.forEach { features += engine.wrap(if (it == "output") given else right) }
            engine.wrap(sums).use { program.run(features, it) }
        } finally {
            features.forEach { it.close() }
        }
        val (agreed, count) = sums.readFloats().map { it.toDouble() }
        val share = if (count > 0) agreed / count else 0.0
        if (share !in 0.0..1.0) throw PackException("metric '$metric' gives $agreed of $count, which is no share")
        return share
    }

    private fun note(subnet: List<String>, from: Int, scores: DoubleArray, failure: String?) {
        val entry = fieldsOf(
            mapOf(
                "subnet" to Json.Items(subnet.map { Json.Text(it) }),
                "from" to Json.Whole(from.toLong()),
                "scores" to Json.Items(scores.map { Json.Decimal(it) }),
                "failed" to (failure?.let { Json.Text(it) } ?: Json.Null),
            ),
        )
        checkNotNull(lines) { "it has not begun" }.append(entry)
    }

    /** Whether it is an entry of the journal. */
    private fun take(value: Json): Boolean {
        val entry = value as? Json.Fields ?: return false
        val subnet = (entry["subnet"] as? Json.Items)?.values?.map { it.text ?: return false } ?: return false
        val from = (entry["from"] as? Json.Whole)?.value ?: return false
        val scores = (entry["scores"] as? Json.Items)?.values?.map { it.number ?: return false } ?: return false
        val before = known[subnet] ?: DoubleArray(0)
        if (from != before.size.toLong() || from + scores.size > pictures.size) return false
        known[subnet] = before + scores
        entry["failed"].text?.let { failures[subnet] = it }
        return true
    }

    override fun close() {
        lines?.close()
        program.close()
    }
}
