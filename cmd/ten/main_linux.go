package main

func platformHooks() hooks { return hooks{} }
