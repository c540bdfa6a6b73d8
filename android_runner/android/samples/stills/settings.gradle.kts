pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositories {
        maven(uri("../../../../build/aar/maven")) // what `make aar` has built
        google()
        mavenCentral()
    }
}

rootProject.name = "stills"
include(":app")
