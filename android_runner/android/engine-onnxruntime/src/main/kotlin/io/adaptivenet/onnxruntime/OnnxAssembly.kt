package io.adaptivenet.onnxruntime

import io.adaptivenet.PackException
import io.adaptivenet.engine.whole
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.util.TreeMap

// The numbers of those fields of onnx.proto that are needed.
private const val MODEL_IR_VERSION = 1
private const val MODEL_GRAPH = 7
private const val MODEL_OPSET = 8
private const val MODEL_FUNCTION = 25
private const val OPSET_DOMAIN = 1
private const val OPSET_VERSION = 2
private const val GRAPH_NODE = 1L
private const val GRAPH_NAME = 2
private const val GRAPH_INITIALIZER = 5L
private const val GRAPH_INPUT = 11
private const val GRAPH_OUTPUT = 12
private const val GRAPH_VALUE_INFO = 13
private const val GRAPH_ANNOTATION = 14L
private const val GRAPH_SPARSE = 15L
private const val VALUE_NAME = 1L

private val JOINED =
    setOf(GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_VALUE_INFO.toLong(), GRAPH_ANNOTATION, GRAPH_SPARSE)

/** A program to join: what it is in messages, its bytes, and the cuts that it reads and gives. */
internal class OnnxPart(val what: String, val data: ByteBuffer, val takes: List<Int>, val gives: Int)

/** What is needed of a model: `inputs` by cut, and the fields to join with their tags. */
private class OnnxModel {
    var irVersion = 0L
    val opsets = TreeMap<String, Long>()
    val joined = ArrayList<ByteBuffer>()
    val inputs = HashMap<Int, ByteBuffer>()
    lateinit var output: ByteBuffer
}

/**
 * The model of consecutive parts, joined byte by byte without an ONNX library, in memory outside of the Java heap. It
 * takes what no earlier part gives, in the order in which it is first read, and gives what the last part gives. See
 * `toolkit/devices/local/onnx_assembly.py`, which does the same, and docs/pack.md. Throws [PackException], which names
 * the part, for what is no such program, and for parts of different operator sets.
 */
internal fun assembleOnnx(parts: List<OnnxPart>): ByteBuffer {
    var irVersion = 0L
    val opsets = TreeMap<String, Pair<Long, String>>() // version, and the part that has it
    val body = ArrayList<ByteBuffer>()
    fun add(number: Int, content: ByteBuffer) {
        body += head(number, content.remaining().toLong())
        body += content
    }
    add(GRAPH_NAME, ByteBuffer.wrap("assembled".toByteArray()))
    val made = HashSet<Int>()
    for (part in parts) {
        val read = readModel(part)
        irVersion = maxOf(irVersion, read.irVersion)
        for ((domain, version) in read.opsets) {
            val (known, by) = opsets.getOrPut(domain) { version to part.what }
            if (known == version) continue
            throw PackException(
                "${part.what} is made for operator set $version and $by for $known, so they cannot run as one model; " +
                    "export the pack again",
            )
        }
        body += read.joined
        for (cut in part.takes) {
            if (made.add(cut)) add(GRAPH_INPUT, read.inputs.getValue(cut))
        }
        add(if (part === parts.last()) GRAPH_OUTPUT else GRAPH_VALUE_INFO, read.output)
        made += part.gives
    }
    return joined(irVersion, opsets.mapValues { it.value.first }, body)
}

private fun joined(irVersion: Long, opsets: Map<String, Long>, body: List<ByteBuffer>): ByteBuffer {
    val model = ByteArrayOutputStream()
    model.writeTag(MODEL_IR_VERSION, VARINT)
    model.writeVarint(irVersion)
    for ((domain, version) in opsets) {
        val content = ByteArrayOutputStream()
        if (domain.isNotEmpty()) {
            content.writeTag(OPSET_DOMAIN, BYTES)
            content.writeVarint(domain.length.toLong())
            content.write(domain.toByteArray(Charsets.ISO_8859_1))
        }
        content.writeTag(OPSET_VERSION, VARINT)
        content.writeVarint(version)
        model.writeTag(MODEL_OPSET, BYTES)
        model.writeVarint(content.size().toLong())
        content.writeTo(model)
    }
    val size = body.sumOf { it.remaining().toLong() }
    val pieces = listOf(ByteBuffer.wrap(model.toByteArray()), head(MODEL_GRAPH, size)) + body
    val memory = ByteBuffer.allocateDirect(Math.toIntExact(pieces.sumOf { it.remaining().toLong() }))
    pieces.forEach { memory.put(it.duplicate()) }
    return memory.whole()
}

private fun refuse(what: String, why: String): Nothing =
    throw PackException("$what is no ONNX program that can be joined with others: $why; export the pack again")

private fun readModel(part: OnnxPart): OnnxModel {
    val made = OnnxModel()
    val graphs = ArrayList<ByteBuffer>()
    try {
        forFields(part.data) { field ->
            when {
                field.number == MODEL_IR_VERSION.toLong() && field.wire == VARINT -> made.irVersion = field.value
                field.number == MODEL_OPSET.toLong() && field.wire == BYTES -> readOpset(part.what, field.content, made)
                field.number == MODEL_GRAPH.toLong() && field.wire == BYTES -> graphs += field.content
                field.number == MODEL_FUNCTION.toLong() -> refuse(part.what, "it has functions of its own")
            }
        }
        if (graphs.size != 1) refuse(part.what, "it has ${graphs.size} graphs")
        readGraph(part, graphs.first(), made)
    } catch (error: ProtobufException) {
        refuse(part.what, checkNotNull(error.message))
    }
    return made
}

private fun readOpset(what: String, content: ByteBuffer, made: OnnxModel) {
    var domain = ""
    var version = 0L
    forFields(content) { field ->
        if (field.number == OPSET_DOMAIN.toLong() && field.wire == BYTES) domain = field.content.name
        if (field.number == OPSET_VERSION.toLong() && field.wire == VARINT) version = field.value
    }
    if (made.opsets.getOrPut(domain) { version } != version) refuse(what, "it has two versions of an operator set")
}

private fun readGraph(part: OnnxPart, content: ByteBuffer, made: OnnxModel) {
    val inputs = HashMap<String, ByteBuffer>()
    val outputs = HashMap<String, ByteBuffer>()
    forFields(content) { field ->
        if (field.wire == BYTES) {
            if (field.number in JOINED) made.joined += field.whole
            val values = when (field.number) {
                GRAPH_INPUT.toLong() -> inputs
                GRAPH_OUTPUT.toLong() -> outputs
                else -> null
            }
            if (values != null && values.put(nameOf(field.content), field.content) != null) {
                refuse(part.what, "it has two inputs or outputs of one name")
            }
        }
    }
    for (cut in part.takes) inputs[border(cut)]?.let { made.inputs[cut] = it }
    val output = outputs[border(part.gives)]
    val areRead = made.inputs.size == part.takes.size && inputs.size == part.takes.size
    if (!areRead || outputs.size != 1 || output == null) {
        val wanted = part.takes.joinToString { border(it) }
        refuse(part.what, "its inputs are not $wanted and its output ${border(part.gives)}")
    }
    made.output = output
}

private fun border(cut: Int) = "cut$cut"

private fun nameOf(value: ByteBuffer): String {
    var name = ""
    forFields(value) { field -> if (field.number == VALUE_NAME && field.wire == BYTES) name = field.content.name }
    return name
}
