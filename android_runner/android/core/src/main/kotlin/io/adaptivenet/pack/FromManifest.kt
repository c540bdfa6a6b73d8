package io.adaptivenet.pack

import io.adaptivenet.GraphException
import io.adaptivenet.Input
import io.adaptivenet.PackException
import io.adaptivenet.graph.Block
import io.adaptivenet.graph.BlockGraph
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.Layout
import io.adaptivenet.graph.TensorType
import io.adaptivenet.json.Json
import io.adaptivenet.json.number
import io.adaptivenet.json.quote
import io.adaptivenet.json.shown
import io.adaptivenet.json.text
import java.io.File
import kotlin.math.abs

// The manifest has the form of its schema when it comes here; what is cast below was checked there.

private fun Json.Fields.list(name: String): List<Json> = (values.getValue(name) as Json.Items).values

private fun Json.Fields.whole(name: String): Long = (values.getValue(name) as Json.Whole).value

private fun Json.Fields.line(name: String): String = (values.getValue(name) as Json.Text).value

private fun Json.asWhole(): Long = (this as Json.Whole).value

private fun Json.Fields.shape(): List<Long> = list("shape").map { it.asWhole() }

/** What a checked manifest describes: checks 9 to 11 of docs/pack.md. */
internal fun packOf(manifest: Json.Fields, folder: File?): Pack {
    val graph = graphOf(manifest)
    val preprocessing = preprocessingOf(manifest, graph)
    val inputs = inputsOf(manifest, graph.cuts.first())
    requireRow(manifest, "outputs", graph.cuts.last())
    val blocks = manifest.list("blocks").map { it as Json.Fields }.associate { it.line("name") to artifactsOf(it) }
    val metrics = (manifest["metrics"] as Json.Fields).values.mapValues { (name, metric) ->
        requireScore(name, metric as Json.Fields)
        metricOf(metric)
    }
    val backends = blocks.getValue(blocks.keys.min()).keys
    blocks.toSortedMap().forEach { (name, artifacts) -> requireBackends(name, artifacts.keys, backends) }
    metrics.forEach { (name, metric) -> requireBackends(name, metric.artifacts.keys, backends) }
    return Pack(
        folder = folder,
        name = manifest.line("name"),
        digest = manifest.line("digest"),
        bundledFrom = (manifest["provenance"] as Json.Fields)["bundled from"].text,
        classes = (manifest["classes"] as? Json.Items)?.values?.map { (it as Json.Text).value },
        preprocessing = preprocessing,
        inputs = inputs,
        graph = graph,
        artifacts = blocks,
        metrics = metrics,
    )
}

private fun metricOf(metric: Json.Fields) = Metric(
    metric.list("operands").map { (it as Json.Text).value },
    metric.list("sums").map { (it as Json.Text).value },
    metric["score"] != null,
    artifactsOf(metric),
)

/** An index of a cut. A number that is too large for an `Int` cannot be one. */
private fun indexOf(value: Long): Int = value.coerceAtMost(Int.MAX_VALUE.toLong()).toInt()

private fun graphOf(manifest: Json.Fields): BlockGraph {
    val cuts = manifest.list("cuts").mapIndexed { at, each ->
        val cut = each as Json.Fields
        if (cut.whole("index") != at.toLong()) {
            throw PackException(
                "manifest.json: cuts must be numbered 0, 1, 2, ...: got ${cut.whole("index")} after $at cuts",
            )
        }
        TensorType(cut.shape(), DType.labelled(cut.line("dtype")))
    }
    val documents = manifest.list("blocks").map { it as Json.Fields }
    requireTwins(documents)
    val blocks = documents.map { block ->
        Block(
            block.line("name"),
            indexOf(block.whole("start")),
            indexOf(block.whole("end")),
            isOriginal = block.line("kind") == "original" && block.isFloat,
            isNetwork = block.line("kind") in listOf("whole", "resized", "also"),
            reads = if (block["reads"] == null) emptyList() else block.list("reads").map { indexOf(it.asWhole()) },
        )
    }
    // The manifest may name taps in any order, and twice.
    val taps = manifest.list("taps").map { indexOf(it.asWhole()) }.toSortedSet().toList()
    return try {
        BlockGraph(cuts, blocks, taps)
    } catch (error: GraphException) {
        throw PackException("manifest.json: ${error.message}")
    }
}

private val Json.Fields.isFloat: Boolean get() = (this["precision"].text ?: "float32") == "float32"

/** What an int8 block was quantised from, where that is here, is in float32 and leads from the same cut to the same. */
private fun requireTwins(blocks: List<Json.Fields>) {
    val byName = blocks.associateBy { it.line("name") }
    for (block in blocks) {
        val twinOf = block["twin_of"].text ?: continue
        val twin = byName[twinOf]
        val fits = twin == null || (twin.isFloat && twin["start"] == block["start"] && twin["end"] == block["end"])
        if (block.isFloat || !fits) {
            throw PackException(
                "manifest.json: block ${quote(block.line("name"))} says that it was quantised from ${quote(twinOf)}: " +
                    "only an int8 block can be, from a float32 block between the same cuts",
            )
        }
    }
}

private fun preprocessingOf(manifest: Json.Fields, graph: BlockGraph): Preprocessing? {
    val document = manifest["preprocessing"] as? Json.Fields ?: return null
    val (height, width) = document.whole("height") to document.whole("width")
    val resize = (document["resize_short"] as? Json.Whole)?.value
    val short = minOf(height, width)
    if (resize != null && resize < short) {
        throw PackException(
            "preprocessing: resize_short is $resize; it must be null or at least the crop's short side, $short",
        )
    }
    val made = TensorType(listOf(1, 3, height, width), DType.FLOAT32)
    if (graph.cuts.first() != made) {
        throw PackException("manifest.json: preprocessing makes $made, but cut 0 is ${graph.cuts.first()}")
    }
    fun numbers(name: String) = document.list(name).mapNotNull { it.number }
    return Preprocessing(
        height.toInt(),
        width.toInt(),
        resize?.toInt(),
        document.line("interpolation"),
        numbers("mean"),
        numbers("std"),
        checkNotNull(document["scale"].number),
    )
}

/** The tensors that a cut holds in one row, where [what] names some. */
private fun requireRow(manifest: Json.Fields, what: String, cut: TensorType) {
    if (manifest[what] == null) return
    val counts = manifest.list(what).map { TensorType((it as Json.Fields).shape(), DType.BOOL).elementsOrNull }
    var left = cut.elementsOrNull?.takeIf { cut.shape.size == 2 } ?: -1
    for (count in counts) left = if (count != null && count <= left) left - count else -1
    if (left != 0L) {
        throw PackException("manifest.json: the $what do not hold as many numbers as their cut, which is $cut")
    }
}

private fun inputsOf(manifest: Json.Fields, first: TensorType): List<Input> {
    requireRow(manifest, "inputs", first)
    if (manifest["inputs"] == null) return emptyList()
    if (first.dtype != DType.FLOAT32) throw PackException("manifest.json: a row of inputs is float32, not $first")
    val inputs = manifest.list("inputs").map { it as Json.Fields }
        .map { Input(it.line("name"), TensorType(it.shape(), DType.labelled(it.line("dtype")))) }
    if (inputs.distinctBy { it.name }.size < inputs.size) throw PackException("manifest.json: two inputs have one name")
    return inputs
}

/** What a metric's sums come to is the host's to say; here it is held only that they can come to something. */
private fun requireScore(name: String, metric: Json.Fields) {
    val score = metric["score"] as? Json.Fields ?: return
    val what = "manifest.json: metric ${quote(name)}"
    if (metric.list("sums").size % 2 != 0) {
        throw PackException("$what has a score and an odd number of sums: it takes parts and as many wholes")
    }
    val (worst, best) = listOf("worst", "best").map { checkNotNull(score[it].number) }
    if (abs(best - worst) < 1e-9) {
        throw PackException(
            "$what: the worst and the best of its score are the same: they must be at least 1e-9 apart",
        )
    }
}

private fun suffixOf(backend: String) = if (backend == "executorch") ".pte" else ".onnx"

private fun artifactsOf(program: Json.Fields): Map<String, Artifact> =
    (program["artifacts"] as Json.Fields).values.mapValues { (backend, each) ->
        val document = each as Json.Fields
        val file = document.line("file")
        if (!file.endsWith(suffixOf(backend))) {
            throw PackException("manifest.json: $file is given for $backend, whose files end in ${suffixOf(backend)}")
        }
        val error = document.values.getValue("max_abs_error")
        val tolerance = document.values.getValue("tolerance")
        val (off, allowed) = error.number to tolerance.number
        if (off != null && allowed != null && off > allowed) {
            throw PackException(
                "$file differs from torch by ${shown(error)}, more than the tolerance of ${shown(tolerance)}",
            )
        }
        val layout = if (document.line("layout") == "channels_last") Layout.CHANNELS_LAST else Layout.CONTIGUOUS
        Artifact(file, document.whole("bytes"), layout)
    }

/** When one program is exported for a backend, all of them are. */
private fun requireBackends(name: String, backends: Set<String>, others: Set<String>) {
    if (backends != others) {
        throw PackException(
            "manifest.json: ${quote(name)} is not exported for the backends that others are exported for; " +
                "export it again",
        )
    }
}
