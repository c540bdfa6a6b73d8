package io.adaptivenet.pack

import io.adaptivenet.Input
import io.adaptivenet.PackException
import io.adaptivenet.graph.BlockGraph
import io.adaptivenet.graph.Layout
import io.adaptivenet.json.Json
import io.adaptivenet.json.quote
import java.io.File
import java.nio.ByteBuffer
import java.security.MessageDigest

/** A program: [file] is `blobs/SHA-256.pte` or `.onnx`. */
internal class Artifact(val file: String, val bytes: Long, val layout: Layout) {
    val sha256: String get() = file.substring(BLOBS.length, BLOBS.length + 64)
}

/**
 * A program that compares outputs: of [operands], `output` is a subnet's, `oracle` the original network's, and `label`
 * what is right. What it gives adds up over pictures, and is called [sums]; with a score of its own, that is no share.
 */
internal class Metric(
    val operands: List<String>,
    val sums: List<String>,
    val hasScore: Boolean,
    val artifacts: Map<String, Artifact>,
)

/**
 * How a picture becomes the input: `(pixel * scale - mean) / std` of pixels from 0 to 255, channel by channel in the order
 * red, green, blue, after resizing and a crop in the middle.
 */
public class Preprocessing internal constructor(
    /** Of the crop, in pixels. */
    public val height: Int,
    /** Of the crop, in pixels. */
    public val width: Int,
    /** To how many pixels the short side is resized before the crop; null: not. */
    public val resizeShort: Int?,
    /** `bilinear` or `bicubic`, both antialiased when making smaller. */
    public val interpolation: String,
    /** Of red, green, blue. */
    public val mean: List<Double>,
    /** Of red, green, blue. */
    public val std: List<Double>,
    /** What a pixel is multiplied by first: 1/255 where [mean] and [std] are of values from 0 to 1. */
    public val scale: Double,
)

/**
 * A block pack, opened from a folder (docs/pack.md): every block of a search space as a program of its own. Programs
 * are checked by size and digest whenever they are read.
 */
public class Pack internal constructor(
    private val folder: File?,
    /** What the pack is called, for people. */
    public val name: String,
    /** SHA-256 of the manifest, which stands for the whole pack: 64 hexadecimal digits. */
    public val digest: String,
    /** The digest of the pack that this is a bundle of, or null. */
    public val bundledFrom: String?,
    /** The names of the classes in the order of the scores, or null. */
    public val classes: List<String>?,
    /** How a picture becomes the input; null where the input is no picture, or the pack does not say. */
    public val preprocessing: Preprocessing?,
    /**
     * The network's inputs where it has several, or one that is no float32 tensor; empty: it reads one tensor, which
     * has no name. See [InputRow][io.adaptivenet.InputRow].
     */
    public val inputs: List<Input>,
    internal val graph: BlockGraph,
    private val artifacts: Map<String, Map<String, Artifact>>,
    internal val metrics: Map<String, Metric>,
) {
    /** The backends that all blocks are exported for: `executorch`, `onnx` or both. */
    public val backends: Set<String> get() = artifacts.values.first().keys

    /** Throws [PackException] for a backend that the pack is not exported for. */
    internal fun artifact(block: String, backend: String): Artifact {
        val found = artifacts.getValue(graph[block].name)
        return found[backend] ?: throw PackException(
            "pack ${quote(name)} is not exported for ${quote(backend)}, " +
                "only for ${found.keys.sorted().joinToString()}; export it again with that backend",
        )
    }

    /** The path of a program. Only [read] says whether what lies there is what it shall be. */
    internal fun path(artifact: Artifact): File = File(folder, artifact.file)

    /** The bytes of a program, mapped into memory: checks 12 to 14. Throws [PackException]. May block. */
    internal fun read(artifact: Artifact): ByteBuffer {
        val blobs = File(folder, BLOBS.trimEnd('/'))
        if (folder == null || !isFolder(blobs)) {
            throw PackException("${quote(blobs.path)} is not a folder (or a link to one); copy the pack again")
        }
        val bytes = try {
            mapFile(path(artifact))
        } catch (error: FileProblem) {
            throw PackException("blob ${error.message}; copy the pack again")
        }
        if (bytes.remaining().toLong() != artifact.bytes) {
            throw PackException(
                "${artifact.file} has ${bytes.remaining()} bytes, the manifest says ${artifact.bytes}; " +
                    "export or copy the pack again",
            )
        }
        val digest = hexadecimal(MessageDigest.getInstance("SHA-256").apply { update(bytes.duplicate()) }.digest())
        if (digest != artifact.sha256) {
            throw PackException(
                "${artifact.file} is damaged: its content has SHA-256 $digest; export or copy the pack again",
            )
        }
        return bytes
    }

    public companion object {
        /**
         * The pack in [folder]. Its programs are not read yet: each is checked when it is. Throws [PackException] at
         * the first of the checks 2 to 11 of docs/pack.md that fails. May block.
         */
        @JvmStatic
        public fun open(folder: File): Pack {
            val bytes = try {
                readFile(File(folder, "manifest.json"), MANIFEST_LIMIT)
            } catch (error: FileProblem) {
                throw PackException("manifest ${error.message}; copy the pack again")
            }
            return parse(bytes, folder)
        }

        /** The pack that a manifest describes; without a [folder] it has no programs. */
        internal fun parse(bytes: ByteArray, folder: File? = null): Pack {
            val manifest: Json.Fields = parseManifest(bytes)
            return packOf(manifest, folder)
        }
    }
}
