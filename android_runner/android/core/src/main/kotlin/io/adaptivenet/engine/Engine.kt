package io.adaptivenet.engine

import io.adaptivenet.DeviceException
import io.adaptivenet.TensorBuffer
import io.adaptivenet.graph.Layout
import io.adaptivenet.graph.TensorType
import io.adaptivenet.json.quote
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.util.ServiceLoader

/**
 * What an engine is opened by. A module that has one lists it under `META-INF/services`, where models find it by
 * [name].
 */
public interface EngineProvider {
    /** As profiles name it: `onnxruntime`, `executorch`. */
    public val name: String

    /** Of the engine's library in this process; null: it does not tell. May load that library. */
    public val version: String? get() = null

    /** Starts the engine; an inference has [threads] threads. May block. */
    public fun open(threads: Int): Engine
}

/** The engine of a profile, of those that are in the app. Throws [DeviceException] where it is not. */
internal fun providerNamed(name: String): EngineProvider {
    val known = ServiceLoader.load(EngineProvider::class.java, EngineProvider::class.java.classLoader).toList()
    return known.firstOrNull { it.name == name } ?: throw DeviceException(
        "the profile was made with the engine ${quote(name)}, and the app has " +
            known.joinToString { it.name }.ifEmpty { "none" } + ": add its module, or give one in the options",
    )
}

/**
 * Loads programs and runs them. A model uses it from two threads: [load] and everything that closes come from its
 * loader, [wrap] and [Program.run] also from whichever thread infers, one at a time.
 */
public interface Engine : Closeable {
    /** Of which of a pack's artifacts it runs: `onnx`, `executorch`. */
    public val backend: String

    /** Whether it makes one program of all blocks of a subnet. Otherwise each block is one, and subnets share them. */
    public val joinsBlocks: Boolean

    /**
     * The program of consecutive blocks: of one unless [joinsBlocks]. May block. Throws `PackException` for what is no
     * such program, `DeviceException` when the engine does not load it.
     */
    public fun load(parts: List<Part>): Program

    /**
     * The program of a metric, which takes what its [part] says in that order, by whatever names. May block. Throws
     * what [load] throws.
     */
    public fun loadMetric(part: Part): Program = load(listOf(part))

    /**
     * The memory of a buffer as the engine sees it, without a copy, to be read or written to in the layout of the
     * buffer. An engine that knows no layouts reads [TensorBuffer.contiguous] and writes by
     * [TensorBuffer.writeContiguous], which copy where the buffer has its channels last.
     */
    public fun wrap(buffer: TensorBuffer): Feature
}

/** A block's program as it lies in the pack, already checked: the same [bytes] as a mapping and as a [file]. */
public class Part(
    /** What it is in messages: `block 'b03'`. */
    public val what: String,
    public val file: File,
    public val bytes: ByteBuffer,
    public val layout: Layout,
    /** The tensors that it takes, in their order, and the one that it gives. */
    public val takes: List<Border>,
    public val gives: Border,
)

/** A tensor between two blocks: the index of its cut, and its type. */
public class Border(public val cut: Int, public val type: TensorType)

/** A program that is loaded. For one thread at a time. */
public interface Program : Closeable {
    /**
     * Runs on features, and writes what comes out to [output] where that is given: it is then returned. Otherwise the
     * result is the engine's, and holds until this program runs again. Throws `DeviceException`.
     */
    public fun run(inputs: List<Feature>, output: Feature?): Feature
}

/** A tensor in an engine. Closing it leaves a buffer that was wrapped as it is. */
public interface Feature : Closeable
