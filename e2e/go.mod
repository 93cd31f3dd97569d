module github.com/mienproject/mien/e2e

go 1.26.0
