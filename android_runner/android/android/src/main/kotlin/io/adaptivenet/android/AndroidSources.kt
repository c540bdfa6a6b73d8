package io.adaptivenet.android

import android.app.ActivityManager
import android.content.ComponentCallbacks2
import android.content.Context
import android.content.res.Configuration
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import io.adaptivenet.AdaptiveModel

// What Android offers from which version on. Nothing newer than the device is called.
private const val HAS_THERMAL_STATUS = 29
private const val HAS_THERMAL_HEADROOM = 30
private const val AHEAD_S = 10

internal class AndroidThermometer(context: Context, private val sdk: Int = Build.VERSION.SDK_INT) : Thermometer {
    private val power: PowerManager? = context.getSystemService(PowerManager::class.java)

    override fun headroom(): Double? =
        if (sdk >= HAS_THERMAL_HEADROOM) power?.getThermalHeadroom(AHEAD_S)?.toDouble() else null

    override fun status(): Int? = if (sdk >= HAS_THERMAL_STATUS) power?.currentThermalStatus else null
}

internal class AndroidMemory(context: Context) : Memory {
    private val activities: ActivityManager? = context.getSystemService(ActivityManager::class.java)

    override fun free(): Long? = activities?.let {
        val info = ActivityManager.MemoryInfo()
        it.getMemoryInfo(info)
        // Below the threshold Android ends programs.
        info.availMem - info.threshold
    }
}

internal class AndroidPower(context: Context) : Power {
    private val battery: BatteryManager? = context.getSystemService(BatteryManager::class.java)
    private val power: PowerManager? = context.getSystemService(PowerManager::class.java)

    override fun percent(): Int? = battery?.getIntProperty(BatteryManager.BATTERY_PROPERTY_CAPACITY)

    override fun isCharging(): Boolean? = battery?.isCharging

    override fun isSaving(): Boolean? = power?.isPowerSaveMode
}

/** Android's calls to give memory back, for a source and the watch that is to look at it at once. */
internal class TrimCallbacks(private val memory: MemorySource) : ComponentCallbacks2 {
    @Volatile
    var watch: DeviceWatch? = null

    override fun onTrimMemory(level: Int) {
        if (memory.trim(level)) watch?.look()
    }

    @Deprecated("Android calls onTrimMemory as well")
    override fun onLowMemory(): Unit = Unit

    override fun onConfigurationChanged(newConfig: Configuration): Unit = Unit
}

/** Tells [model] of heat, memory and energy until it is closed or nothing refers to it any more. */
internal fun watchDevice(context: Context, model: AdaptiveModel): DeviceWatch {
    val memory = MemorySource(AndroidMemory(context))
    val sources = listOf(HeatSource(AndroidThermometer(context)), memory, EnergySource(AndroidPower(context)))
    val callbacks = TrimCallbacks(memory)
    context.registerComponentCallbacks(callbacks)
    val watch = DeviceWatch(
        sources,
        DeviceWatch.PERIOD_MS,
        whenEnded = { context.unregisterComponentCallbacks(callbacks) },
        tell = DeviceWatch.telling(model),
    )
    callbacks.watch = watch
    return watch
}
