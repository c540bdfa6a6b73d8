package io.adaptivenet.android

import android.os.Build

private const val SAYS_SOC = 31 // Android 12
private val SAYS_NOTHING = setOf("", "unknown", "qcom") // on phones of Qualcomm's, the hardware is its maker's name

/**
 * The system on a chip of this device, as `adaptivenet-profile` notes it in a profile (toolkit/devices/phone/soc.py): the first
 * of three names that says something. Null: none does.
 */
internal fun socOf(vararg names: String?): String? =
    names.filterNotNull().map { it.trim() }.firstOrNull { it.lowercase() !in SAYS_NOTHING }

/** The same of the device that this runs on. */
internal fun socOfThisDevice(): String? = socOf(
    if (Build.VERSION.SDK_INT >= SAYS_SOC) Build.SOC_MODEL else null,
    Build.HARDWARE,
    Build.BOARD,
)
