package io.adaptivenet.onnxruntime

import ai.onnxruntime.NodeInfo
import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import io.adaptivenet.DeviceException
import io.adaptivenet.PackException
import io.adaptivenet.TensorBuffer
import io.adaptivenet.engine.Border
import io.adaptivenet.engine.Engine
import io.adaptivenet.engine.EngineProvider
import io.adaptivenet.engine.Feature
import io.adaptivenet.engine.Part
import io.adaptivenet.engine.Program
import io.adaptivenet.engine.whole
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.TensorType

/**
 * ONNX Runtime, through its own Java API. All blocks of a subnet are joined to one model, so that a subnet runs as if
 * it had been exported whole; loading one needs its size in memory beside what serves.
 */
public class OnnxRuntime : EngineProvider {
    override val name: String get() = "onnxruntime"

    override val version: String get() = environment().version

    override fun open(threads: Int): Engine = OnnxRuntimeEngine(threads)
}

/** The process has one, and the library never gives it up. */
private fun environment(): OrtEnvironment =
    OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL, "adaptivenet")

private class OnnxRuntimeEngine(threads: Int) : Engine {
    private val environment = environment()
    private val options = OrtSession.SessionOptions().apply {
        setIntraOpNumThreads(threads)
        setInterOpNumThreads(1)
    }

    override val backend: String get() = "onnx"
    override val joinsBlocks: Boolean get() = true

    override fun load(parts: List<Part>): Program {
        val model = assembleOnnx(
            parts.map { part -> OnnxPart(part.what, part.bytes, part.takes.map { it.cut }, part.gives.cut) },
        )
        val made = HashSet<Int>()
        val takes = ArrayList<Border>()
        for (part in parts) {
            takes += part.takes.filter { made.add(it.cut) }
            made += part.gives.cut
        }
        val (first, last) = parts.first().what to parts.last().what
        val what = if (parts.size == 1) first else "the network from $first to $last"
        val gives = parts.last().gives
        return opened(what, { environment.createSession(model, options) }) { session ->
            OnnxProgram(what, session, takes.map { "cut${it.cut}" to it.type }, "cut${gives.cut}" to gives.type)
        }
    }

    override fun loadMetric(part: Part): Program {
        val bytes = ByteArray(part.bytes.remaining()).also { part.bytes.duplicate().get(it) }
        return opened(part.what, { environment.createSession(bytes, options) }) { session ->
            val names = session.inputNames.toList()
            if (names.size != part.takes.size || session.outputNames.size != 1) {
                throw PackException(
                    "${part.what} takes ${names.size} tensors and gives ${session.outputNames.size}, but the pack " +
                        "says ${part.takes.size} and 1; export the pack again",
                )
            }
            val takes = names.zip(part.takes.map { it.type })
            OnnxProgram(part.what, session, takes, session.outputNames.first() to part.gives.type)
        }
    }

    private fun opened(what: String, open: () -> OrtSession, use: (OrtSession) -> Program): Program {
        val session = try {
            open()
        } catch (error: OrtException) {
            throw DeviceException("$what does not load on onnxruntime ${environment.version}: ${error.oneLine}", error)
        }
        try {
            return use(session)
        } catch (error: Throwable) {
            session.close()
            throw error
        }
    }

    override fun wrap(buffer: TensorBuffer): Feature = BufferFeature(environment, buffer)

    override fun close() {
        options.close()
    }
}

private val OrtException.oneLine: String get() = message.orEmpty().replace('\n', ' ')

private val javaTypes = mapOf(
    DType.FLOAT32 to OnnxJavaType.FLOAT,
    DType.FLOAT16 to OnnxJavaType.FLOAT16,
    DType.BFLOAT16 to OnnxJavaType.BFLOAT16,
    DType.INT64 to OnnxJavaType.INT64,
    DType.INT32 to OnnxJavaType.INT32,
    DType.INT8 to OnnxJavaType.INT8,
    DType.UINT8 to OnnxJavaType.UINT8,
    DType.BOOL to OnnxJavaType.BOOL,
)

/** A tensor to read. */
private interface OnnxFeature : Feature {
    val tensor: OnnxTensor
}

private class OwnFeature(override val tensor: OnnxTensor) : OnnxFeature {
    override fun close() {
        tensor.close()
    }
}

private class BufferFeature(private val environment: OrtEnvironment, private val buffer: TensorBuffer) : OnnxFeature {
    private var read: OnnxTensor? = null
    override val tensor: OnnxTensor get() = read ?: tensorOver(buffer.contiguous()).also { read = it }

    /** Lets [run] write to a tensor over the buffer. */
    fun written(run: (OnnxTensor) -> Unit): Unit = buffer.writeContiguous { to -> tensorOver(to).use(run) }

    private fun tensorOver(memory: TensorBuffer): OnnxTensor {
        val shape = memory.type.shape.toLongArray()
        return OnnxTensor.createTensor(environment, memory.bytes.whole(), shape, javaTypes.getValue(memory.type.dtype))
    }

    override fun close() {
        read?.close()
    }
}

private class OnnxProgram(
    private val what: String,
    private val session: OrtSession,
    takes: List<Pair<String, TensorType>>,
    gives: Pair<String, TensorType>,
) : Program {
    private val inputs = takes.map { it.first }
    private val output = gives.first

    init {
        (takes + gives).forEach { (name, type) -> require(name, type) }
    }

    private fun require(name: String, type: TensorType) {
        val info = (session.inputInfo[name] ?: session.outputInfo[name])?.tensor
        val found = info?.let { TensorType(it.shape.toList(), dtypeOf(it)) }
        if (found != type) {
            val where = if (name.startsWith("cut")) "cut ${name.removePrefix("cut")}" else "'$name'"
            throw PackException("$what has $found at $where, but the pack says $type; export the pack again")
        }
    }

    private val NodeInfo.tensor: TensorInfo? get() = info as? TensorInfo

    private fun dtypeOf(info: TensorInfo): DType = javaTypes.entries.firstOrNull { it.value == info.type }?.key
        ?: throw PackException("$what has a tensor of ${info.type}, which no pack may have; export the pack again")

    override fun run(inputs: List<Feature>, output: Feature?): Feature {
        val given = LinkedHashMap<String, OnnxTensor>()
        this.inputs.forEachIndexed { at, name -> given[name] = (inputs[at] as OnnxFeature).tensor }
        try {
            if (output == null) {
                // The result is the session's until it is taken out: closing what holds it would close it as well.
                return OwnFeature(session.run(given).get(0) as OnnxTensor)
            }
            (output as BufferFeature).written { session.run(given, mapOf(this.output to it)).close() }
            return output
        } catch (error: OrtException) {
            throw DeviceException("$what failed on onnxruntime: ${error.oneLine}", error)
        }
    }

    override fun close() {
        session.close()
    }
}
