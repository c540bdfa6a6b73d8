package io.adaptivenet.calibration

import io.adaptivenet.json.Json
import io.adaptivenet.json.fieldsOf
import io.adaptivenet.json.quote
import io.adaptivenet.json.text
import io.adaptivenet.profile.ProfilePoint
import io.adaptivenet.profile.pointOf
import io.adaptivenet.profile.rising
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sqrt

private const val Z95 = 1.959963984540054 // the 97.5% quantile of the normal distribution

/**
 * The profile of this device with a front of its own: [profile], which was calibrated, with the finalists of a search
 * as they were measured, which is as uncertain as [uncertainty] says. Memory, energy and qualities by other metrics stay
 * those of the points that were there before.
 */
internal fun searchedProfile(
    profile: Json.Fields,
    oracle: List<String>,
    space: SearchSpace,
    found: Found,
    measured: Map<List<String>, Measured>,
    seconds: Map<String, Double>,
    uncertainty: Double,
): Json.Fields {
    val before = (profile.items("front") + profile.items("whole")).map { pointOf(it) }.associateBy { it.point.subnet }
    val off = measured.maxOf { (subnet, latency) -> abs(latency.medianMs / space.costOf(subnet) - 1) }
    val points = found.agreement.keys.filter { it in measured }.map { subnet ->
        point(subnet, space.costOf(subnet), off, measured.getValue(subnet), found, before[subnet])
    }
    val stays = rising(points)
    val front = stays + points.filter { it.point.subnet == oracle && it !in stays }
    val fields = HashMap(profile.values)
    fields["front"] = Json.Items(front.sortedBy { it.point.costs.latencyMs }.map { it.document })
    fields["whole"] = Json.Items(points.filter { it.point.subnet.size == 1 }.map { it.document })
    fields["search"] = fieldsOf(
        mapOf(
            "strategy" to Json.Text("of the app"),
            "metric" to Json.Text(found.metric),
            "subnets" to Json.Whole(found.subnets.toLong()),
            "image_evaluations" to Json.Whole(found.evaluations.toLong()),
            "images" to Json.Whole(found.searched.toLong()),
        ),
    )
    fields["verify"] = fieldsOf(mapOf("images" to Json.Whole(found.verified.toLong()), "trained_on" to Json.Null))
    fields["warnings"] = warnings(profile, found, uncertainty)
    val took = (profile["seconds"] as? Json.Fields)?.values.orEmpty()
    fields["seconds"] = fieldsOf(took + seconds.mapValues { Json.Decimal(it.value) })
    val calibration = (profile["calibration"] as? Json.Fields)?.values.orEmpty()
    fields["calibration"] = fieldsOf(calibration + mapOf("searched_on" to Json.Text(found.digest)))
    measured[space.reference]?.let { fields["reference"] = latency(profile["reference"], it) }
    measured[oracle]?.let {
        fields["oracle_latency"] = latency(profile["oracle_latency"], it)
        fields["oracle_latency_ms"] = Json.Decimal(it.medianMs)
    }
    return fieldsOf(fields)
}

private fun Json.Fields.items(name: String): List<Json> = (this[name] as? Json.Items)?.values.orEmpty()

private fun latency(before: Json?, measured: Measured) = fieldsOf(
    (before as? Json.Fields)?.values.orEmpty() + mapOf(
        "median_ms" to Json.Decimal(measured.medianMs),
        "spread_ms" to Json.Decimal(measured.spreadMs),
        "repetitions" to Json.Whole(measured.repetitions.toLong()),
    ),
)

private fun point(
    subnet: List<String>,
    predictedMs: Double,
    off: Double,
    measured: Measured,
    found: Found,
    before: ProfilePoint?,
): ProfilePoint {
    val known = before?.document
    val others = listOfNotNull(known?.get("quality")) + known?.items("also").orEmpty()
    val also = others.filter { it is Json.Fields && it["metric"].text != found.metric }
    val costs = listOf("resident_mb", "energy_mj", "energy_spread_mj").associateWith { known?.get(it) ?: Json.Null }
    val fields = costs + mapOf(
        "subnet" to Json.Items(subnet.map { Json.Text(it) }),
        "predicted_ms" to Json.Decimal(predictedMs),
        "predicted_error_ms" to Json.Decimal(off * predictedMs),
        "measured_ms" to Json.Decimal(measured.medianMs),
        "spread_ms" to Json.Decimal(measured.spreadMs),
        "repetitions" to Json.Whole(measured.repetitions.toLong()),
        "quality" to quality(found.metric, found.agreement.getValue(subnet), found.verified),
        "also" to Json.Items(also),
        "energy_repetitions" to (known?.get("energy_repetitions") ?: Json.Whole(0)),
    )
    return pointOf(fieldsOf(fields))
}

/** With Wilson's interval, as toolkit/graph/quality.py has it. */
private fun quality(metric: String, share: Double, pictures: Int): Json {
    val weight = Z95 * Z95 / pictures
    val middle = (share + weight / 2) / (1 + weight)
    val reach = sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return fieldsOf(
        mapOf(
            "metric" to Json.Text(metric),
            "value" to Json.Decimal(share),
            "low" to Json.Decimal(min(share, max(0.0, middle - reach))),
            "high" to Json.Decimal(max(share, min(1.0, middle + reach))),
            "n" to Json.Whole(pictures.toLong()),
        ),
    )
}

private fun warnings(profile: Json.Fields, found: Found, uncertainty: Double): Json {
    val of = ((profile["calibration"] as? Json.Fields)?.get("of") as? Json.Fields)?.get("name").text ?: "another device"
    val said = ArrayList<String>()
    said += "latencies were measured by an app on this device; memory and energy are those of ${quote(of)}"
    said += "qualities are the ${found.metric} with the original network on pictures of the app: " +
        "that network may be wrong as well"
    for ((subnet, failure) in found.failures) {
        said += "${quote(subnet.joinToString(" "))} is left out, it failed on this device: $failure"
    }
    doubt(uncertainty)?.let { said += it }
    return Json.Items(said.map { Json.Text(it) })
}
