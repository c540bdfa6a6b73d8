package android.os

/**
 * In the place of Android's own class, whose methods are native: with it, the real `Build` says on a JVM what a phone of these
 * properties is.
 */
@Suppress("unused") // Build calls them
internal object SystemProperties {
    private val properties = mapOf(
        "ro.soc.model" to "SM8475",
        "ro.hardware" to "qcom",
        "ro.product.board" to "taro",
        "ro.build.version.sdk" to "34",
        "ro.build.version.release" to "14",
        "ro.build.version.codename" to "REL",
        "ro.build.version.known_codenames" to "REL",
        "ro.build.version.all_codenames" to "REL",
        "ro.build.fingerprint" to "maker/phone/14",
        "ro.product.cpu.abilist" to "arm64-v8a",
        "ro.product.cpu.abilist64" to "arm64-v8a",
    )

    @JvmStatic
    fun get(key: String): String = properties[key].orEmpty()

    @JvmStatic
    fun get(key: String, default: String): String = properties[key] ?: default

    @JvmStatic
    fun getInt(key: String, default: Int): Int = properties[key]?.toInt() ?: default

    @JvmStatic
    fun getLong(key: String, default: Long): Long = properties[key]?.toLong() ?: default

    @JvmStatic
    fun getBoolean(key: String, default: Boolean): Boolean = properties[key]?.toBoolean() ?: default
}
