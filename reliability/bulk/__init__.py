"""Operations on many dead letters (and the replay of one): preview, submission, and the steps that a worker takes."""
