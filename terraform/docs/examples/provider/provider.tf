terraform {
  required_version = ">= 1.11"

  required_providers {
    ten = {
      source = "ten.example.com:8443/tenement/ten"
    }
  }
}

# The token comes from TEN_TOKEN, so that it is in no file.
provider "ten" {
  endpoints = ["https://ten.example.com:8443", "https://ten2.example.com:8443"]
  ca        = "ten-ca.pem"
}
