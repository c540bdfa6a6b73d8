package io.adaptivenet.profile

import io.adaptivenet.GraphException
import io.adaptivenet.Point
import io.adaptivenet.ProfileException
import io.adaptivenet.json.Json
import io.adaptivenet.json.JsonException
import io.adaptivenet.json.number
import io.adaptivenet.json.parseJson
import io.adaptivenet.json.quote
import io.adaptivenet.json.shown
import io.adaptivenet.json.text
import io.adaptivenet.pack.FileProblem
import io.adaptivenet.pack.Pack
import io.adaptivenet.pack.readFile
import java.io.File

private const val FORMAT = "adaptivenet-profile"
private const val VERSION = 2L
private const val LIMIT = 64 shl 20 // bytes

/** A point of a front that may serve: the names of its blocks in order, and what it takes. */
internal class ServedPoint(val subnet: List<String>, val costs: Point)

/**
 * What a model reads of a profile (docs/profile.md): whom it is of, and the points of its front that are worth running,
 * fastest first. Each is reported to be better than all faster ones, or is not reported on.
 */
internal class ServedProfile(
    /** The digest of the pack that was profiled. */
    private val pack: String,
    val engine: String,
    val threads: Int,
    /** What the whole network took, in milliseconds. */
    val wholeMs: Double,
    val points: List<ServedPoint>,
) {
    /** Throws [ProfileException] unless the profile is of this pack or of the one that this is a bundle of. */
    fun requireMadeFor(opened: Pack) {
        if (pack != opened.digest && pack != opened.bundledFrom) {
            throw ProfileException(
                "the profile was made for another pack (${pack.take(12)}…, this one is ${opened.digest.take(12)}…): " +
                    "profile this one",
            )
        }
        try {
            points.forEach { opened.graph.requireSubnet(it.subnet) }
        } catch (error: GraphException) {
            throw ProfileException("the profile is damaged: ${error.message}; profile again", error)
        }
    }

    /** Throws [ProfileException] when latencies were measured with another engine or number of threads than these. */
    fun requireSameDevice(engine: String, threads: Int) {
        val otherwise = "; profile with these, or take it as of another device"
        if (this.engine != engine) {
            throw ProfileException(
                "the profile was made with the engine ${quote(this.engine)}, not ${quote(engine)}$otherwise",
            )
        }
        if (this.threads != threads) {
            throw ProfileException("the profile was made with ${this.threads} threads, not $threads$otherwise")
        }
    }
}

/** The profile in a file. Throws [ProfileException]. May block. */
internal fun readProfile(file: File): ServedProfile = parseProfile(readProfileBytes(file))

/** The bytes of a profile in a file, not yet looked at. Throws [ProfileException]. May block. */
internal fun readProfileBytes(file: File): ByteArray = try {
    readFile(file, LIMIT)
} catch (error: FileProblem) {
    throw ProfileException("the profile ${error.message}", error)
}

/** The profile in [bytes]. Throws [ProfileException] for what is none, and for other versions. */
internal fun parseProfile(bytes: ByteArray): ServedProfile = servedProfile(profileDocument(bytes))

/** The whole document of the profile in [bytes]. Throws [ProfileException] for what is none, and for other versions. */
internal fun profileDocument(bytes: ByteArray): Json.Fields {
    val document = try {
        parseJson(bytes)
    } catch (error: JsonException) {
        throw ProfileException("the profile is not JSON: ${error.message}; profile again", error)
    }
    if ((document as? Json.Fields)?.get("format").text != FORMAT) {
        throw ProfileException("this is not a profile: it does not say '$FORMAT'")
    }
    val fields = document as Json.Fields
    val version = fields["version"] ?: Json.Null
    if (version != Json.Whole(VERSION)) {
        throw ProfileException("the profile has version ${shown(version)}; this library reads version $VERSION")
    }
    return fields
}

/** What a model reads of the document of a profile. Throws [ProfileException] where it is damaged. */
internal fun servedProfile(fields: Json.Fields): ServedProfile {
    val points = rising(fields.list("front").map { pointOf(it) }).map { it.point }
    if (points.isEmpty()) throw ProfileException("the profile has no point on its front; profile again")
    return ServedProfile(
        pack = fields.fields("pack").line("digest"),
        engine = fields.fields("device").line("engine"),
        threads = threads(fields.fields("device")["threads"] ?: Json.Null),
        wholeMs = time(fields.fields("reference")["median_ms"] ?: Json.Null),
        points = points,
    )
}

private fun damaged(what: String): Nothing = throw ProfileException("the profile is damaged: $what; profile again")

private fun Json.Fields.fields(name: String): Json.Fields = this[name] as? Json.Fields ?: damaged("$name is no object")

private fun Json.Fields.list(name: String): List<Json> =
    (this[name] as? Json.Items)?.values ?: damaged("$name is no list")

private fun Json.Fields.line(name: String): String = this[name].text ?: damaged("$name is no text")

private fun time(value: Json): Double =
    value.number?.takeIf { it > 0 } ?: damaged("a subnet takes ${shown(value)} ms")

private fun threads(value: Json): Int =
    (value as? Json.Whole)?.value?.takeIf { it in 1..Int.MAX_VALUE }?.toInt()
        ?: damaged("it was made with ${shown(value)} threads")

/** A point as it stands in a profile: all of it, and what is read of it. */
internal class ProfilePoint(val document: Json.Fields, val point: ServedPoint, val quality: Double?)

/** Throws [ProfileException] for what is no point. */
internal fun pointOf(value: Json): ProfilePoint {
    val document = value as? Json.Fields ?: damaged("a point is no object")
    val subnet = document.list("subnet").map { it.text ?: damaged("a block's name is ${shown(it)}") }
    val measured = document["measured_ms"]?.takeIf { it != Json.Null }
    val latencyMs = time(measured ?: document["predicted_ms"] ?: Json.Null)
    val costs = Point(latencyMs, cost(document, "resident_mb"), cost(document, "energy_mj"))
    val quality = document["quality"]?.takeIf { it != Json.Null }
    val reported = quality?.let { (it as? Json.Fields)?.get("value").number ?: damaged("a quality is ${shown(it)}") }
    return ProfilePoint(document, ServedPoint(subnet, costs), reported)
}

/** What a point takes of something; null where it was not measured, as in profiles of earlier toolkits. */
private fun cost(point: Json.Fields, field: String): Double? {
    val value = point[field]?.takeIf { it != Json.Null } ?: return null
    return value.number?.takeIf { it >= 0 } ?: damaged("the $field of a subnet is ${shown(value)}")
}

/** Those that are reported to be better than all faster ones, or are not reported on, fastest first. */
internal fun rising(front: List<ProfilePoint>): List<ProfilePoint> {
    val qualities = ArrayList<Double>()
    val points = ArrayList<ProfilePoint>()
    for (candidate in front.sortedBy { it.point.costs.latencyMs }) {
        val quality = candidate.quality
        if (quality != null && qualities.any { it >= quality }) continue
        if (quality != null) qualities += quality
        points += candidate
    }
    return points
}
