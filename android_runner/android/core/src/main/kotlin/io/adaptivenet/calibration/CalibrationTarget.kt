package io.adaptivenet.calibration

import io.adaptivenet.DeviceException
import io.adaptivenet.Options
import io.adaptivenet.ProfileException
import io.adaptivenet.ThisDevice
import io.adaptivenet.engine.EngineProvider
import io.adaptivenet.engine.providerNamed
import io.adaptivenet.json.Json
import io.adaptivenet.json.canonicalJson
import io.adaptivenet.json.fieldsOf
import io.adaptivenet.json.isControl
import io.adaptivenet.json.text
import io.adaptivenet.pack.hexadecimal
import io.adaptivenet.profile.ServedProfile
import io.adaptivenet.profile.profileDocument
import io.adaptivenet.profile.readProfileBytes
import io.adaptivenet.profile.servedProfile
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.nio.file.Files
import java.nio.file.StandardCopyOption.ATOMIC_MOVE
import java.security.MessageDigest

private const val LONGEST_SOC = 92 // characters, in a profile
private const val CORES = "cores" // a process in the background may be allowed fewer

/**
 * What a calibration is of, and where what it writes lies: the profile in [source], with the engine and threads that a
 * model with these options would have, on [device]. Throws [ProfileException] for what is no profile. May block.
 */
internal class CalibrationTarget(source: File, home: File, options: Options, private val device: ThisDevice) {
    private val bytes = readProfileBytes(source)

    /** Of the source. */
    val document: Json.Fields = profileDocument(bytes)
    val known: ServedProfile = servedProfile(document)
    val provider: EngineProvider = options.engine ?: providerNamed(known.engine)
    val threads: Int = options.threads ?: known.threads

    private val version = provider.version
    private val file = "${provider.name}-${version ?: "app"}-$threads".replace(Regex("[^A-Za-z0-9_.-]"), "_")

    /** The profile of this device. */
    val profile = File(home, "$file.json")
    val journal = File(home, "$file.journal")

    /** What a search has evaluated, and how far its finalists are measured. */
    val evaluations = File(home, "$file.evaluations")
    val finalists = File(home, "$file.finalists")

    /** This device, as a profile has it. */
    private val deviceFields: Json.Fields = fieldsOf(
        mapOf(
            "address" to Json.Text("app"),
            "name" to Json.Text(device.name),
            "os" to Json.Text(device.os),
            "engine" to Json.Text(provider.name),
            "engine_version" to Json.Text(version ?: "unknown"),
            "threads" to Json.Whole(threads.toLong()),
            CORES to Json.Whole(Runtime.getRuntime().availableProcessors().toLong()),
            "soc" to (device.soc?.let { Json.Text(oneLine(it)) } ?: Json.Null),
        ),
    )

    /** What a calibration is of: the profile, and where the engine does not tell its version, its app. */
    private val about: Map<String, Json> = mapOf(
        "profile" to Json.Text(hexadecimal(MessageDigest.getInstance("SHA-256").digest(bytes))),
        "app" to (device.app?.takeIf { version == null }?.let { Json.Text(it) } ?: Json.Null),
    )

    /** What a journal of this begins with. */
    fun header(subnets: List<List<String>>): Json = fieldsOf(
        about + mapOf(
            "format" to Json.Text("adaptivenet-calibration"),
            "version" to Json.Whole(1),
            "device" to ofDevice(deviceFields),
            "warmup" to Json.Whole(WARMUP.toLong()),
            "timed" to Json.Whole(TIMED.toLong()),
            "subnets" to Json.Items(subnets.map { each -> Json.Items(each.map { Json.Text(it) }) }),
        ),
    )

    /** Whether there is a profile of this device that was calibrated from the source and may serve. May block. */
    fun isDone(): Boolean {
        if (!profile.isFile) return false
        return try {
            val found = profileDocument(readProfileBytes(profile))
            servedProfile(found)
            val calibration = found["calibration"] as? Json.Fields
            val isOfThis = (found["device"] as? Json.Fields)?.let { ofDevice(it) } == ofDevice(deviceFields)
            isOfThis && about.all { (name, value) -> calibration?.get(name) == value }
        } catch (_: ProfileException) { // damaged: it is as if there were none
            false
        }
    }

    private fun ofDevice(fields: Json.Fields) = fieldsOf(fields.values - CORES)

    /** The profile of this device, of what was measured. Throws [DeviceException] where nothing was. */
    fun calibrated(
        oracle: List<String>,
        outcomes: Map<List<String>, Outcome>,
        seconds: Double,
        uncertainty: Double,
    ): Json.Fields = calibrated(document, oracle, outcomes, deviceFields, about, seconds, uncertainty)

    /** The document of the profile of this device, which is there. Throws [ProfileException]. May block. */
    fun calibrated(): Json.Fields = profileDocument(readProfileBytes(profile))

    /** Writes the profile of this device, under its name only when it is whole. Throws [DeviceException]. May block. */
    fun save(document: Json.Fields) {
        val part = File(profile.path + ".part")
        try {
            FileOutputStream(part).use {
                it.write("${canonicalJson(document)}\n".toByteArray())
                it.fd.sync()
            }
            Files.move(part.toPath(), profile.toPath(), ATOMIC_MOVE)
        } catch (error: IOException) {
            throw DeviceException("the profile of this device cannot be written to $profile: ${error.message}", error)
        }
    }

    private fun oneLine(text: String): String = text.filterNot { isControl(it.code) }.take(LONGEST_SOC)
}
