package io.adaptivenet.calibration

import io.adaptivenet.json.Json
import io.adaptivenet.json.fieldsOf
import io.adaptivenet.json.number
import io.adaptivenet.json.text
import java.io.Closeable
import java.io.File

/**
 * What was measured so far of so many [subnets], for another process to go on with: [Lines] that begin with a header,
 * of which each other one is a visit.
 */
internal class Journal(file: File, header: Json, subnets: Int) : Closeable {
    /** Of all processes together. */
    val timings = Timings(subnets)

    /** What all visits together have taken, loading counted in. */
    var seconds = 0.0
        private set

    private val lines = Lines.open(file, header, ::take)

    fun visited(subnet: Int, round: Int, ms: List<Double>, seconds: Double) {
        note(subnet, round, "ms", Json.Items(ms.map { Json.Decimal(it) }), seconds)
    }

    fun failed(subnet: Int, round: Int, message: String, seconds: Double) {
        note(subnet, round, "failed", Json.Text(message), seconds)
    }

    private fun note(subnet: Int, round: Int, what: String, value: Json, seconds: Double) {
        val fields = mapOf(
            "subnet" to Json.Whole(subnet.toLong()),
            "round" to Json.Whole(round.toLong()),
            "seconds" to Json.Decimal(seconds),
            what to value,
        )
        val entry = fieldsOf(fields)
        lines.append(entry)
        check(take(entry)) { "an entry that cannot be read again" }
    }

    /** Whether it is an entry of this journal. */
    private fun take(value: Json): Boolean {
        val entry = value as? Json.Fields ?: return false
        val subnet = (entry["subnet"] as? Json.Whole)?.value?.toInt() ?: return false
        val round = (entry["round"] as? Json.Whole)?.value?.toInt() ?: return false
        val took = entry["seconds"].number ?: return false
        val ms = (entry["ms"] as? Json.Items)?.values?.map { it.number?.takeIf { ms -> ms > 0 } ?: return false }
        val message = entry["failed"].text
        when {
            !timings.isSubnet(subnet) -> return false
            ms != null && ms.isNotEmpty() -> timings.add(subnet, round, ms)
            message != null -> timings.fail(subnet, message)
            else -> return false
        }
        seconds += took
        return true
    }

    /** There is nothing to go on with any more. */
    fun delete() {
        lines.delete()
    }

    override fun close() {
        lines.close()
    }
}
