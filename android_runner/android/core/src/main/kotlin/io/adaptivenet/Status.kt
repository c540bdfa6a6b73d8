package io.adaptivenet

/** A model at one moment. */
public data class Status(
    /** That serves from the next inference on, as the names of its blocks; empty before the first is loaded. */
    public val subnet: List<String>,
    /** Its index in the front, fastest first; null for one that was asked for by name and is no point. */
    public val point: Int?,
    /** What is loaded beside it; empty for nothing. */
    public val loading: List<String>,
    /** How many times slower than profiled the device is believed to be. */
    public val slowdown: Double,
    /** Of the artifacts of all that is loaded. */
    public val residentBytes: Long,
    /** How often another subnet came to serve. */
    public val switches: Int,
    /** Why this one serves, in a line. */
    public val why: String,
    /** What last went wrong with loading one; null for nothing. */
    public val error: String?,
)

/** One inference. */
public data class Inference(
    /** From the input to the output, in milliseconds, without waiting for one's turn. */
    public val ms: Double,
    /** The point that ran; null for a subnet that is none. */
    public val point: Int?,
)
