package io.adaptivenet.pack

import io.adaptivenet.PackException
import io.adaptivenet.graph.DType
import io.adaptivenet.json.Json
import io.adaptivenet.json.JsonException
import io.adaptivenet.json.canonicalJson
import io.adaptivenet.json.parseJson
import io.adaptivenet.json.shown
import io.adaptivenet.json.text
import java.security.MessageDigest

internal const val MANIFEST_LIMIT = 16 shl 20 // bytes
internal const val BLOBS = "blobs/"
private const val FORMAT = "adaptivenet-pack"
private const val VERSION = 2L

/**
 * The manifest in [bytes], checked as far as it can be without its graph and its blobs: checks 3 to 8 of docs/pack.md.
 * Throws [PackException] at the first that fails.
 */
internal fun parseManifest(bytes: ByteArray): Json.Fields {
    if (bytes.size > MANIFEST_LIMIT) {
        throw PackException(
            "manifest.json has more than $MANIFEST_LIMIT bytes, which no pack needs; it is not a manifest",
        )
    }
    val document = try {
        parseJson(bytes)
    } catch (error: JsonException) {
        throw PackException("manifest.json cannot be read as JSON: ${error.message}; export or copy the pack again")
    }
    val fields = document as? Json.Fields
    if (fields == null || fields["format"].text != FORMAT) {
        throw PackException("manifest.json does not say \"format\": \"$FORMAT\"; it is not a block pack's manifest")
    }
    val version = fields["version"] ?: Json.Null
    if (version != Json.Whole(VERSION)) {
        throw PackException(
            "is of format version ${shown(version)}, but this program reads version $VERSION; export it again",
        )
    }
    requireDigest(fields)
    manifest(Place(fields))
    return fields
}

private fun requireDigest(manifest: Json.Fields) {
    val rest = canonicalJson(Json.Fields(manifest.values.filterKeys { it != "digest" }))
    val digest = hexadecimal(MessageDigest.getInstance("SHA-256").digest(rest.toByteArray()))
    if (manifest["digest"].text != digest) {
        throw PackException(
            "manifest.json was edited or damaged: its digest should be $digest; export or copy the pack again",
        )
    }
}

internal fun hexadecimal(bytes: ByteArray): String = bytes.joinToString("") { "%02x".format(it) }

private val shape = list(whole(1, 2147483647), 1, 8)
private val index = whole(0)
private val side = whole(1, 16384)

private val cut = fields(
    Field("index", index),
    Field("shape", shape),
    Field("dtype", oneOf(*DType.entries.map { it.label }.toTypedArray())),
)

private val output = fields(Field("name", line), Field("shape", shape))

private val input = fields(
    Field("name", line),
    Field("shape", shape),
    Field("dtype", oneOf("float32", "int64", "int32", "bool")),
)

private val artifact = fields(
    Field("file", blob),
    Field("bytes", whole(1)),
    Field("layout", oneOf("contiguous", "channels_last")),
    Field("max_abs_error", nullable(atLeastZero)),
    Field("tolerance", nullable(atLeastZero)),
    Field("snr_db", nullable(anyNumber), isOptional = true),
    Field("made_from", nullable(digest), isOptional = true),
)

private val artifacts: Rule = { place ->
    fields(Field("executorch", artifact, isOptional = true), Field("onnx", artifact, isOptional = true))(place)
    if ((place.value as Json.Fields).values.isEmpty()) place.refuse("there is no artifact")
}

private val block = fields(
    Field("name", name),
    Field("start", index),
    Field("end", index),
    Field("kind", kind),
    Field("source", line),
    Field("ratio", nullable(share), isOptional = true),
    Field("params", whole(0)),
    Field("macs", whole(0)),
    Field("loss", nullable(atLeastZero), isOptional = true),
    Field("precision", oneOf("float32", "int8"), isOptional = true),
    Field("twin_of", nullable(name), isOptional = true),
    Field("reads", list(index, 0, 1024), isOptional = true),
    Field("artifacts", artifacts),
)

private val operands: Rule = { place ->
    list(oneOf("output", "oracle", "label"), 1, 3)(place)
    val values = (place.value as Json.Items).values
    place.require(values.toSet().size == values.size, "a list of different operands")
}

private val score = fields(Field("unit", unit), Field("worst", end), Field("best", end))

private val metric = fields(
    Field("operands", operands),
    Field("sums", list(name, 1, 4096)),
    Field("score", score, isOptional = true),
    Field("artifacts", artifacts),
)

private val preprocessing = fields(
    Field("height", side),
    Field("width", side),
    Field("resize_short", nullable(side)),
    Field("crop", oneOf("center")),
    Field("interpolation", oneOf("bilinear", "bicubic")),
    Field("mean", list(anyNumber, 3, 3)),
    Field("std", list(positive, 3, 3)),
    Field("scale", positive),
)

private val checkedBefore: Rule = {}

/** `toolkit/pack/schema/pack.schema.json` in Kotlin. */
private val manifest = fields(
    Field("format", checkedBefore),
    Field("version", checkedBefore),
    Field("name", title),
    Field("digest", checkedBefore),
    Field("cuts", list(cut, 2, 1024)),
    Field("taps", list(index, 0, 1024)),
    Field("inputs", list(input, 1, 1024), isOptional = true),
    Field("outputs", list(output, 2, 1024), isOptional = true),
    Field("blocks", list(block, 1, 16384)),
    Field("metrics", mapping(::isName, metric, 64)),
    Field("preprocessing", nullable(preprocessing)),
    Field("classes", nullable(list(line, 1, 100000))),
    Field("trained_on", digests, isOptional = true),
    Field("provenance", mapping(::isLine, line, 1024)),
)
