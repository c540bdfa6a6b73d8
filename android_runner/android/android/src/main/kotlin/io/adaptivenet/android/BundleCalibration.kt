package io.adaptivenet.android

import android.content.Context
import android.os.Build
import android.os.Process
import io.adaptivenet.Calibration
import io.adaptivenet.CalibrationBounds
import io.adaptivenet.CalibrationListener
import io.adaptivenet.CalibrationResult
import io.adaptivenet.Options
import io.adaptivenet.Pictures
import io.adaptivenet.ThisDevice
import java.io.File
import java.util.concurrent.ThreadFactory

// One below the priority of background work, from which on Android puts threads on the small cores of many devices: models
// do not run there, and what is measured shall hold for them.
private const val PRIORITY = Process.THREAD_PRIORITY_BACKGROUND - 1

/**
 * Measures on this device what the profile of a bundle says, so that models which are opened from then on have a profile of
 * this device: a [Calibration] of the bundle's pack and the profile that the device begins with, which pauses while the device
 * is hot, by what Android says of that, and does not try programs that have ended the app. Made for a worker of WorkManager:
 * [run] in `doWork`, [cancel] in `onStopped`. To make one reads nothing.
 *
 * The profile holds until the bundle or the engine changes, or Android's version: then this has something to do again. [Options]
 * are those that the models are opened with.
 */
public class BundleCalibration internal constructor(
    context: Context,
    private val open: (Context) -> Unpacked,
    private val options: Options,
    private val bounds: CalibrationBounds,
    private val threads: ThreadFactory,
) {
    /** Of the bundle in the assets' folder [name]. */
    @JvmOverloads
    public constructor(
        context: Context,
        name: String,
        options: Options = Options(),
        bounds: CalibrationBounds = CalibrationBounds(),
    ) : this(context, { AndroidModels.unpacked(it, name) }, options, bounds, ThreadFactory(::yielding))

    /** Of a bundle that lies in a folder. */
    @JvmOverloads
    public constructor(
        context: Context,
        folder: File,
        options: Options = Options(),
        bounds: CalibrationBounds = CalibrationBounds(),
    ) : this(context, { Unpacker.inPlace(folder) }, options, bounds, ThreadFactory(::yielding))

    private val context = context.applicationContext ?: context
    private val lock = Any() // guards the two below
    private var calibration: Calibration? = null
    private var isCancelled = false

    /**
     * See [Calibration.run]: blocks for minutes. Throws what that throws, and for a bundle that cannot be opened what
     * [AndroidModels.create] does.
     */
    @JvmOverloads
    public fun run(listener: CalibrationListener? = null): CalibrationResult = calibration().run(listener)

    /**
     * See [Calibration.search]: blocks for minutes. Throws what that throws, and for a bundle that cannot be opened as [run]
     * does.
     */
    @JvmOverloads
    public fun search(
        pictures: Pictures,
        evaluations: Int = 20 * pictures.size,
        listener: CalibrationListener? = null,
    ): CalibrationResult = calibration().search(pictures, evaluations, listener)

    private fun calibration(): Calibration {
        val bundle = open(context)
        val heat = HeatSource(AndroidThermometer(context))
        val made = Calibration(
            folder = bundle.folder,
            profile = AndroidModels.profileIn(bundle),
            home = AndroidModels.calibratedIn(context, bundle),
            device = thisDevice(context),
            options = AndroidModels.watched(context, bundle, options),
            bounds = bounds,
            heat = { heat.read()?.headroom },
            threads = threads,
        )
        synchronized(lock) {
            calibration = made
            if (isCancelled) made.cancel()
        }
        return made
    }

    /** See [Calibration.cancel]: from any thread, also before [run]. Returns at once. */
    public fun cancel() {
        synchronized(lock) {
            isCancelled = true
            calibration?.cancel()
        }
    }
}

private fun yielding(work: Runnable) = Thread(
    {
        Process.setThreadPriority(PRIORITY)
        work.run()
    },
    "adaptivenet-calibration",
).apply { isDaemon = true }

/** This device, as a profile that is calibrated on it names it. */
internal fun thisDevice(context: Context) = ThisDevice(
    name = "${Build.MANUFACTURER} ${Build.MODEL}",
    os = "Android ${Build.VERSION.RELEASE}",
    soc = socOfThisDevice(),
    app = context.packageCodePath, // another one after every update
)
