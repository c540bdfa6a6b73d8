package io.adaptivenet.executorch

import io.adaptivenet.DeviceException
import io.adaptivenet.PackException
import io.adaptivenet.TensorBuffer
import io.adaptivenet.engine.Border
import io.adaptivenet.engine.Engine
import io.adaptivenet.engine.EngineProvider
import io.adaptivenet.engine.Feature
import io.adaptivenet.engine.Part
import io.adaptivenet.engine.Program
import io.adaptivenet.graph.Layout
import io.adaptivenet.graph.TensorType
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor
import java.util.concurrent.locks.ReentrantReadWriteLock
import kotlin.concurrent.read
import kotlin.concurrent.write

/**
 * ExecuTorch, through its own Java API. Every block is a program of its own, which the subnets that have it share.
 *
 * The process has one pool of threads, and every load sets how many they are. So whatever loads programs in an app must
 * ask for the same number of threads, and must not load while a model of this library does.
 */
public class ExecuTorch : EngineProvider {
    override val name: String get() = "executorch"

    override fun open(threads: Int): Engine = ExecuTorchEngine(threads)
}

/** Of all models of the process: programs that are loaded at the same time end it. */
private val loading = Any()

/**
 * The process's pool of threads, which is made anew when a program is opened, and must not be while one runs. To open
 * one is not to load it yet, and takes no time to speak of.
 */
private val pool = ReentrantReadWriteLock()

private class ExecuTorchEngine(private val threads: Int) : Engine {
    override val backend: String get() = "executorch"
    override val joinsBlocks: Boolean get() = false

    override fun load(parts: List<Part>): Program {
        val part = parts.single()
        val module = try {
            // By default the whole file would be copied into memory.
            synchronized(loading) { pool.write { Module.load(part.file.path, Module.LOAD_MODE_MMAP, threads) } }
        } catch (error: RuntimeException) {
            throw DeviceException("${part.what} does not load on executorch: ${error.oneLine}", error)
        }
        val program = ExecuTorchProgram(part, module)
        val code = synchronized(loading) { module.loadMethod("forward") }
        if (code != 0) {
            program.close()
            throw DeviceException("${part.what} does not load on executorch: error $code")
        }
        return program
    }

    override fun wrap(buffer: TensorBuffer): Feature =
        TensorFeature(buffer.type, buffer.layout, tensorOver(buffer.type, buffer.bytes), buffer)

    override fun close(): Unit = Unit
}

private val RuntimeException.oneLine: String get() = (message ?: javaClass.name).replace('\n', ' ')

private val Layout.other: Layout get() = if (this == Layout.CONTIGUOUS) Layout.CHANNELS_LAST else Layout.CONTIGUOUS

private class ExecuTorchProgram(part: Part, private val module: Module) : Program {
    private val what = part.what
    private val layout = part.layout
    private val gives: Border = part.gives

    private val inputs = part.takes.map { Arranged(it.type, layout) }
    private val toOther by lazy { orderOf(gives.type, layout, layout.other) }

    override fun run(inputs: List<Feature>, output: Feature?): Feature {
        val given = Array<EValue>(inputs.size) { EValue.from(this.inputs[it].tensorOf(inputs[it] as TensorFeature)) }
        val results = try {
            pool.read { module.forward(*given) }
        } catch (error: RuntimeException) {
            throw DeviceException("$what failed on executorch: ${error.oneLine}", error)
        }
        val tensor = results.singleOrNull()?.toTensor()
            ?: throw PackException("$what gives ${results.size} tensors, not one; export the pack again")
        if (tensor.shape().toList() != gives.type.shape) {
            throw PackException("$what gives ${tensor.shape().toList()}, not ${gives.type}; export the pack again")
        }
        val made = TensorFeature(gives.type, layout, tensor, null)
        if (output == null) return made
        val buffer = checkNotNull((output as TensorFeature).buffer) { "an output is a buffer" }
        made.copyTo(buffer, if (buffer.layout == layout) null else toOther)
        return output
    }

    override fun close() {
        module.destroy()
    }
}

/** An input of a program that wants it in [layout], with memory for what comes in the other one. */
private class Arranged(private val type: TensorType, private val layout: Layout) {
    private val order by lazy { orderOf(type, layout.other, layout) }
    private val memory by lazy { TensorBuffer(type) }
    private val tensor by lazy { tensorOver(type, memory.bytes) }

    fun tensorOf(feature: TensorFeature): Tensor {
        if (feature.layout == layout || order == null) return feature.tensor
        feature.copyTo(memory, order)
        return tensor
    }
}
