"""Parts of pages: progress, problems, figures, tables and headline figures, each shown in one way everywhere."""
