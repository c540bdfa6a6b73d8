package io.adaptivenet.bundle

import io.adaptivenet.PackException
import io.adaptivenet.json.Json
import io.adaptivenet.json.JsonException
import io.adaptivenet.json.parseJson
import io.adaptivenet.json.quote
import io.adaptivenet.json.shown
import io.adaptivenet.json.text
import io.adaptivenet.pack.hexadecimal
import io.adaptivenet.pack.isDigest
import java.security.MessageDigest

private const val FORMAT = "adaptivenet-bundle"
private const val VERSION = 1L
private const val MANIFEST = "manifest.json"
private const val MOST_FILES = 65536
private const val SERIES = 4 // characters that two names of one series begin with: SM8450 and SM8475, not SM8550
private val NAME = Regex("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
private val PATH = Regex("(?:blobs|profiles)/[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

/** A file of a bundle: its place within it, its size in bytes, and the SHA-256 of its content in hexadecimal digits. */
public class BundledFile internal constructor(
    public val path: String,
    public val bytes: Long,
    public val sha256: String,
)

/** A profile of a bundle, and whose it is. */
public class BundledProfile internal constructor(
    /** The system on a chip that it was made on, as Android calls it; null: it was made on no Android device. */
    public val soc: String?,
    /** Its place within the bundle. */
    public val file: String,
    /** The device in words. */
    public val device: String,
)

/**
 * The index of a bundle for an app (docs/pack.md): which files it has, and which profile is of which system on a chip. Paths
 * have been checked: each is that of the manifest, or of a file within `blobs` or `profiles`.
 */
public class BundleIndex private constructor(
    /** What the bundle is called: also the name of its folder. */
    public val name: String,
    /** SHA-256 of the index, which stands for the whole bundle: 64 hexadecimal digits. */
    public val digest: String,
    /** The digest of the pack. */
    public val pack: String,
    /** Every file but the index. */
    public val files: List<BundledFile>,
    /** The default first. */
    public val profiles: List<BundledProfile>,
) {
    /** Of all files together, the index not counted. */
    public val bytes: Long = files.sumOf { it.bytes }

    /**
     * The profile for a device with this system on a chip: its own, else one of the same series, which is the one whose name
     * begins alike, else the default.
     */
    public fun profileFor(soc: String?): BundledProfile {
        val wanted = soc?.trim()?.lowercase() ?: return profiles.first()
        val alike = { profile: BundledProfile -> profile.soc?.lowercase()?.commonPrefixWith(wanted)?.length ?: 0 }
        profiles.firstOrNull { it.soc?.trim()?.lowercase() == wanted }?.let { return it }
        return profiles.maxBy(alike).takeIf { alike(it) >= SERIES } ?: profiles.first()
    }

    public companion object {
        /** The name of the file. */
        public const val FILE: String = "bundle.json"

        /** The most bytes that an index has. */
        public const val LIMIT: Int = 16 shl 20

        /** The index in [bytes]. Throws [PackException] for what is none, and for other versions. */
        @JvmStatic
        public fun parse(bytes: ByteArray): BundleIndex {
            val document = try {
                parseJson(bytes)
            } catch (error: JsonException) {
                throw PackException("$FILE cannot be read as JSON: ${error.message}; bundle the pack again", error)
            }
            val fields = document as? Json.Fields
            if (fields == null || fields["format"].text != FORMAT) {
                throw PackException("$FILE does not say \"format\": \"$FORMAT\"; it is not the index of a bundle")
            }
            if (fields["version"] != Json.Whole(VERSION)) {
                val version = shown(fields["version"] ?: Json.Null)
                throw PackException(
                    "$FILE is of version $version, but this library reads $VERSION; bundle the pack again",
                )
            }
            val name = fields.line("name")
            require(NAME.matches(name), "${quote(name)} is no name of a bundle")
            val files = fields.list("files").map { file(it) }
            require(files.size <= MOST_FILES, "it has ${files.size} files")
            files.groupBy { it.path }.values.forEach { require(it.size == 1, "${quote(it[0].path)} is there twice") }
            val known = files.mapTo(HashSet()) { it.path }
            require(MANIFEST in known, "it has no $MANIFEST")
            val profiles = fields.list("profiles").map { profile(it, known) }
            val default = fields.line("default")
            require(profiles.firstOrNull()?.file == default, "the default, ${quote(default)}, is not its first profile")
            val digest = hexadecimal(MessageDigest.getInstance("SHA-256").digest(bytes))
            return BundleIndex(name, digest, fields.digest("pack"), files, profiles)
        }

        private fun file(value: Json): BundledFile {
            val fields = value as? Json.Fields ?: refuse("a file is ${shown(value)}")
            val path = fields.line("path")
            require(path == MANIFEST || PATH.matches(path), "${quote(path)} is no path of a bundle's file")
            val bytes = (fields["bytes"] as? Json.Whole)?.value ?: -1
            require(bytes >= 0, "${quote(path)} has ${shown(fields["bytes"] ?: Json.Null)} bytes")
            return BundledFile(path, bytes, fields.digest("sha256"))
        }

        private fun profile(value: Json, known: Set<String>): BundledProfile {
            val fields = value as? Json.Fields ?: refuse("a profile is ${shown(value)}")
            val file = fields.line("file")
            require(file in known && file != MANIFEST, "${quote(file)} is not among its files")
            val soc = fields["soc"] ?: Json.Null
            require(soc == Json.Null || soc is Json.Text, "a SoC is ${shown(soc)}")
            return BundledProfile(soc.text, file, fields.line("device"))
        }

        private fun Json.Fields.line(name: String): String = this[name].text ?: refuse("$name is no text")

        private fun Json.Fields.list(name: String): List<Json> =
            (this[name] as? Json.Items)?.values ?: refuse("$name is no list")

        private fun Json.Fields.digest(name: String): String {
            val digest = line(name)
            require(isDigest(digest), "$name is ${quote(digest)}, no digest of 64 hexadecimal digits")
            return digest
        }

        private fun require(holds: Boolean, what: String) {
            if (!holds) refuse(what)
        }

        private fun refuse(what: String): Nothing =
            throw PackException("$FILE is damaged: $what; bundle the pack again")
    }
}
