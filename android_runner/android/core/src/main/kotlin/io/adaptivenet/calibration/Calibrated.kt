package io.adaptivenet.calibration

import io.adaptivenet.DeviceException
import io.adaptivenet.json.Json
import io.adaptivenet.json.fieldsOf
import io.adaptivenet.json.number
import io.adaptivenet.json.quote
import io.adaptivenet.json.text
import io.adaptivenet.profile.ProfilePoint
import io.adaptivenet.profile.pointOf
import io.adaptivenet.profile.rising
import kotlin.math.roundToInt

/** What is only true of the device that the first profile was made on, and nobody needs to serve. */
private val OF_THE_OTHER_DEVICE = setOf(
    "conditions", "slowdowns", "front_notes", "samples", "drift", "chosen", "budgets", "seconds", "oracle_latency_ms",
)

private const val WELL_KNOWN = 0.1 // as a share: half of a 95% interval

/** What came of measuring a subnet: its latency, or why there is none. */
internal sealed interface Outcome {
    class Known(val latency: Measured) : Outcome

    /** It does not load or run on this device. */
    class Failed(val message: String) : Outcome

    /** It was not tried: it takes more than may be loaded, or is no subnet of the pack. */
    object Unknown : Outcome
}

/** What a calibration measures of a profile: all its subnets that are run whole, each once. */
internal fun subnetsOf(profile: Json.Fields): List<List<String>> {
    val points = (profile.points("front") + profile.points("whole")).map { it.point.subnet }
    return (points + listOfNotNull(referenceOf(profile))).distinct()
}

/** The subnet that budgets are shares of; null where the profile does not say. */
internal fun referenceOf(profile: Json.Fields): List<String>? =
    ((profile["reference"] as? Json.Fields)?.get("subnet") as? Json.Items)?.values?.map { it.text ?: return null }

private fun Json.Fields.points(name: String): List<ProfilePoint> =
    (this[name] as? Json.Items)?.values.orEmpty().map { pointOf(it) }

/**
 * The profile of this device: [profile] with the latencies that were measured here. What was not measured is scaled by
 * as much as those differ from what the profile says, and says so by having been measured 0 times. Qualities, memory
 * and energy stay those of the profile, and its warnings tell it.
 *
 * Of its front and its whole networks those are on the new front that are better than all faster ones; the [oracle],
 * where it was on the front, stays in any case. [outcomes] has all of [subnetsOf]. [device] replaces the profile's, and
 * [about] says what was calibrated, [uncertainty] is that of the timings. Throws [DeviceException] where nothing was measured.
 */
internal fun calibrated(
    profile: Json.Fields,
    oracle: List<String>,
    outcomes: Map<List<String>, Outcome>,
    device: Json.Fields,
    about: Map<String, Json>,
    seconds: Double,
    uncertainty: Double,
): Json.Fields {
    val (before, others) = profile.points("front") to profile.points("whole")
    val slower = slower(before + others, outcomes)
    val rewritten = Rewriting(outcomes, slower)
    val front = before.mapNotNull { rewritten.point(it) }
    val whole = others.mapNotNull { rewritten.point(it) }
    // Of a whole network that the app does not have, as in most bundles, the latency is only predicted.
    val all = (front + whole.filter { outcomes[it.point.subnet] is Outcome.Known }).distinctBy { it.point.subnet }
    val stays = rising(all)
    val oracleStays = front.filter { it.point.subnet == oracle && it !in stays }
    val chosen = (stays + oracleStays).sortedBy { it.point.costs.latencyMs }
    val fields = HashMap(profile.values - OF_THE_OTHER_DEVICE)
    fields["device"] = device
    fields["front"] = Json.Items(chosen.map { it.document })
    fields["whole"] = Json.Items(whole.map { it.document })
    fields["budgets"] = Json.Items(emptyList())
    fields["seconds"] = fieldsOf(mapOf("calibrate" to Json.Decimal(seconds)))
    fields["warnings"] = Json.Items(
        (profile["warnings"] as? Json.Items)?.values.orEmpty() +
            warnings(profile, outcomes, all.size - chosen.size, uncertainty),
    )
    fields["calibration"] = fieldsOf(
        about + mapOf(
            "of" to (profile["device"] ?: Json.Null),
            "slower" to Json.Decimal(slower),
            "failed" to listed(outcomes.filterValues { it is Outcome.Failed }.keys),
            "not_measured" to listed(outcomes.filterValues { it == Outcome.Unknown }.keys),
        ),
    )
    (profile["blocks"] as? Json.Items)?.let { blocks ->
        val each = blocks.values.filterIsInstance<Json.Fields>()
        fields["blocks"] = Json.Items(each.map { rewritten.scaled(it, "median_ms", "in_subnet_ms") })
    }
    (profile["reference"] as? Json.Fields)?.let {
        fields["reference"] = rewritten.latency(it, referenceOf(profile))
    }
    (profile["oracle_latency"] as? Json.Fields)?.let {
        val known = rewritten.latency(it, oracle)
        fields["oracle_latency"] = known
        fields["oracle_latency_ms"] = known["median_ms"] ?: Json.Null
    }
    return fieldsOf(fields)
}

private fun listed(subnets: Set<List<String>>): Json =
    Json.Items(subnets.map { subnet -> Json.Items(subnet.map { Json.Text(it) }) })

/** How many times slower this device is than the one of the profile, over what was measured on both. */
private fun slower(points: List<ProfilePoint>, outcomes: Map<List<String>, Outcome>): Double {
    val ratios = points.mapNotNull { each ->
        (outcomes[each.point.subnet] as? Outcome.Known)?.let { it.latency.medianMs / each.point.costs.latencyMs }
    }
    if (ratios.isEmpty()) {
        val failure = outcomes.values.filterIsInstance<Outcome.Failed>().firstOrNull()?.message
        throw DeviceException(
            "no point of the profile could be measured on this device" + failure?.let { ": $it" }.orEmpty(),
        )
    }
    return median(ratios)
}

/** What is to be said of latencies that are known within such a share at worst; null: nothing. */
internal fun doubt(uncertainty: Double): String? = when {
    uncertainty <= WELL_KNOWN -> null
    uncertainty.isFinite() -> "what some subnets take is only known within ${(uncertainty * 100).roundToInt()}%: " +
        "the device did something else meanwhile"
    else -> "what some subnets take was seen in few rounds: time was up, or the device did something else meanwhile"
}

private fun warnings(
    profile: Json.Fields,
    outcomes: Map<List<String>, Outcome>,
    beaten: Int,
    uncertainty: Double,
): List<Json> {
    val other = (profile["device"] as? Json.Fields)?.get("name").text ?: "another device"
    val said = ArrayList<String>()
    said += "latencies were measured by an app on this device; " +
        "qualities, memory and energy are those of ${quote(other)}"
    for ((subnet, outcome) in outcomes) {
        if (outcome !is Outcome.Failed) continue
        said += "${quote(subnet.joinToString(" "))} is left out, it failed on this device: ${outcome.message}"
    }
    val unknown = outcomes.count { it.value == Outcome.Unknown }
    if (unknown > 0) said += "$unknown subnets were not measured on this device: their latencies are predicted"
    if (beaten > 0) said += "$beaten points are left out: on this device a faster one is as good"
    doubt(uncertainty)?.let { said += it }
    return said.map { Json.Text(it) }
}

/** Rewrites the latencies of a profile for a device that is [slower] times as slow, where it is not measured. */
private class Rewriting(private val outcomes: Map<List<String>, Outcome>, private val slower: Double) {
    /** Null for a subnet that fails. */
    fun point(point: ProfilePoint): ProfilePoint? {
        val outcome = outcomes[point.point.subnet]
        if (outcome is Outcome.Failed) return null
        val known = (outcome as? Outcome.Known)?.latency
        val fields = HashMap(scaled(point.document, "predicted_ms", "predicted_error_ms").values)
        fields["measured_ms"] = known?.let { Json.Decimal(it.medianMs) } ?: Json.Null
        fields["spread_ms"] = known?.let { Json.Decimal(it.spreadMs) } ?: Json.Null
        fields["repetitions"] = Json.Whole(known?.repetitions?.toLong() ?: 0)
        return pointOf(fieldsOf(fields))
    }

    /** A latency of [subnet]; where that was not measured, the one of the profile, scaled. */
    fun latency(latency: Json.Fields, subnet: List<String>?): Json.Fields {
        val known = (outcomes[subnet] as? Outcome.Known)?.latency ?: return scaled(latency, "median_ms")
        return fieldsOf(
            latency.values + mapOf(
                "median_ms" to Json.Decimal(known.medianMs),
                "spread_ms" to Json.Decimal(known.spreadMs),
                "repetitions" to Json.Whole(known.repetitions.toLong()),
            ),
        )
    }

    /** The same with these times scaled. A latency among them was measured 0 times, and has no spread. */
    fun scaled(document: Json.Fields, vararg times: String): Json.Fields {
        val fields = HashMap(document.values)
        for (name in times) {
            fields[name] = Json.Decimal((document[name].number ?: continue) * slower)
        }
        if ("median_ms" in times) {
            fields["spread_ms"] = Json.Decimal(0.0)
            fields["repetitions"] = Json.Whole(0)
        }
        return fieldsOf(fields)
    }
}
