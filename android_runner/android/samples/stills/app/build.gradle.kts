plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "io.adaptivenet.sample.stills"
    compileSdk = 36

    defaultConfig {
        applicationId = "io.adaptivenet.sample.stills"
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = "1"
    }
    // The folder that `adaptivenet-export PACK bundle --bundle android --name model …` has written.
    sourceSets["main"].assets.srcDir("../bundle/assets")
    androidResources { noCompress += listOf("onnx", "pte") }
    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation("io.adaptivenet:adaptivenet:0.1.0")
    implementation("io.adaptivenet:adaptivenet-engine-onnxruntime:0.1.0")
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.23.2")
}
