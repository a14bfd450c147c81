package consensus

const crashDirEnv = "TENEMENT_TEST_CRASH_DIR"

func writeUntilKilled(string) {}
