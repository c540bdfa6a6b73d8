package io.adaptivenet

/**
 * What this library throws for what its caller gave it, or for what the device cannot do. Every message is one line:
 * what failed, the value, what to do.
 *
 * ```
 * AdaptiveNetException
 * ├── PackException       a manifest or a program is damaged, or not what it says
 * ├── ProfileException    a profile is damaged, or of something else
 * ├── GraphException      something is no block or subnet of the pack
 * ├── BudgetException     a budget is no positive number
 * ├── DataException       an input or output that does not fit
 * └── DeviceException     the engine or the machine: loading or inferring failed, or nothing serves
 * ```
 *
 * Using a model after it was closed is a mistake of the program and an [IllegalStateException].
 */
public sealed class AdaptiveNetException(message: String, cause: Throwable? = null) : RuntimeException(message, cause)

/** A manifest or a program is damaged, or not what it says. */
public class PackException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    AdaptiveNetException(message, cause)

/** A profile is damaged, or of another pack, engine or number of threads. */
public class ProfileException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    AdaptiveNetException(message, cause)

/** Something is no block or subnet of the pack. */
public class GraphException(message: String) : AdaptiveNetException(message)

/** A budget is no positive number, or is for a percentile that it cannot be for. */
public class BudgetException(message: String) : AdaptiveNetException(message)

/** An input or output does not have the size or the type that the pack has. */
public class DataException(message: String) : AdaptiveNetException(message)

/** The engine or the machine: loading or inferring failed, or nothing serves. */
public class DeviceException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    AdaptiveNetException(message, cause)
